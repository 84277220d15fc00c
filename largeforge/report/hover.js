for (const card of document.querySelectorAll("[data-curve]")) {
  const { x, text } = JSON.parse(card.dataset.curve);
  const out = card.querySelector("output"), last = out.textContent;
  let at = x.length;
  const show = (index) => {
    at = Math.max(0, Math.min(x.length - 1, index));
    out.textContent = text[at];
    card.classList.add("reading");
    for (const line of card.querySelectorAll(".cross")) for (const end of ["x1", "x2"]) line.setAttribute(end, x[at] + "%");
  };
  const hide = () => { at = x.length; out.textContent = last; card.classList.remove("reading"); };
  for (const chart of card.querySelectorAll(".chart")) {
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect(), place = (event.clientX - box.left) / box.width * 100;
      let best = 0;
      x.forEach((value, index) => { if (Math.abs(value - place) < Math.abs(x[best] - place)) best = index; });
      show(best);
    });
  }
  card.addEventListener("pointerleave", hide);
  card.addEventListener("blur", hide);
  card.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10, Home: -Infinity, End: Infinity }[event.key];
    if (!move) return;
    event.preventDefault();
    show(at + move);
  });
}
