"""One rollout on real hosts, from where it is to its end: canaries, looks, and then all of it in service or gone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from largeforge.deploy.rollouts.conduct import conduct
from largeforge.deploy.rollouts.looking import aborted, advance
from largeforge.errors import DeployError, GateError, LargeForgeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from largeforge.deploy.rollouts.conduct import Gateways, Report
    from largeforge.deploy.rollouts.document import Document, Ending
    from largeforge.deploy.service import Site
    from largeforge.deploy.update import Replacement, Update


class Rolling:
    """A rollout that begins or goes on; `update` has what serves now, and `canaries` are up or are to be."""

    def __init__(
        self,
        document: Document,
        gateways: Gateways,
        update: Update,
        canaries: Sequence[Replacement],
        *,
        report: Report,
        site: Site,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.document = document
        self._gateways, self._update, self._canaries = gateways, update, canaries
        self._report, self._site, self._clock, self._sleep = report, site, clock, sleep

    def run(self, bring_in: Callable[[], None], *, settle: Callable[[Document], None], command: str = "") -> Document:
        """Go on until the end, or until somebody must say how; `bring_in` brings what was promoted into service, and
        `settle` is told of the end.

        Raises GateError when the models are sent back, and what `bring_in` raises, after what served before serves
        again.
        """
        if self.document.verdict == "promoted":
            self._confirm(command)
        elif not self.document.verdict and command == "abort":
            self._send_back()
        elif not self.document.verdict:
            self._conduct(command)
        if self.document.verdict == "rolled_back":
            self._update.remove_canaries([one.new for one in self._canaries])
            self._close("rolled_back", self.document.why, settle)
            raise GateError(f"sent back: {'; '.join(self.document.reasons)}")
        if not self.document.verdict:
            return self.document
        try:
            bring_in()
        except (LargeForgeError, KeyboardInterrupt) as error:
            if self._update.is_through:
                self._report("", "it serves; end what is left to do with `python -m largeforge rollout resume`")
                raise
            self._update.remove_canaries([one.new for one in self._canaries])
            reason = f"it could not be brought into service: {str(error) or 'interrupted'}"
            self._close("rolled_back", (reason,), settle)
            raise
        self._close("promoted", self.document.why, settle)
        return self.document

    def _confirm(self, command: str) -> None:
        """See whether models that were promoted, and that nobody has brought into service, are wanted still.

        Raises DeployError for a command that comes too late.
        """
        if command == "pause":
            raise DeployError("it was promoted; `python -m largeforge rollout resume` brings it into service")
        if any(self._update.serves(one.host, one.service, one.new) for one in self.document.members):
            if command == "abort":
                raise DeployError(
                    "it was promoted, and a part of it is in service; `python -m largeforge rollout resume` ends "
                    "that, and `python -m largeforge rollback` goes back then"
                )
            return
        look, _ = self._gateways.exchange(self.document)
        if "abort" in (command, *look.commands):
            self._send_back()
            return
        now = self._clock()
        self.document, _ = advance(self.document, look, now, began=now)
        if self.document.verdict == "rolled_back":
            self._gateways.exchange(self.document)

    def _send_back(self) -> None:
        """Have the old models alone asked again, whether canaries are up or not."""
        self.document = aborted(self.document, self._clock())
        self._gateways.exchange(self.document)

    def _conduct(self, command: str) -> None:
        """Bring the canaries up where they are not, and look at them until there is a verdict."""
        is_new = not self.document.number
        look, _ = self._gateways.exchange(self.document)
        try:
            self._update.add_canaries(self._canaries)
        except (LargeForgeError, KeyboardInterrupt):
            if is_new:
                self._close("not_begun", ("its canaries did not start",), lambda document: None)
            raise
        try:
            self.document = conduct(
                self.document, self._gateways, report=self._report, unreachable_s=self._site.unreachable_s,
                command=command, left=look.commands, on_look=self._looked, clock=self._clock, sleep=self._sleep,
            )  # fmt: skip
        except (DeployError, KeyboardInterrupt):
            self._report(
                "", "the rollout stays as it is, and gateways take a canary out that is surely worse; go on with "
                "`python -m largeforge rollout resume`, or end it with `promote` or `abort`",
            )  # fmt: skip
            raise

    def _looked(self, document: Document) -> None:
        self.document = document

    def _close(self, ending: Ending, reasons: tuple[str, ...], settle: Callable[[Document], None]) -> None:
        """Have settled how it ended and why, which may be done twice, and write that down where the gateways are."""
        self.document = self.document.over(ending, reasons)
        settle(self.document)
        _, failed = self._gateways.exchange(self.document)
        for host, reason in failed.items():
            self._report(host, f"how the rollout ended is not written down there: {reason}")
