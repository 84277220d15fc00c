"""Models that must be downloaded can be: the hub or its mirror answers, and lets this user have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from largeforge.preflight import needs, servers
from largeforge.preflight.finding import Finding, error, ok, skipped, warning

if TYPE_CHECKING:
    from largeforge.preflight.context import Context
    from largeforge.preflight.web import Reply
    from largeforge.recipe.model_ref import ModelRef


def check(context: Context) -> Iterator[Finding]:
    """Ask for one small file of each model that is not in the cache."""
    wanted = needs.hub_models(context)
    missing = needs.missing_hub_models(context)
    if not wanted:
        yield skipped("no model comes from the hub")
        return
    if len(missing) < len(wanted):
        yield ok(f"{len(wanted) - len(missing)} of {len(wanted)} models are in {context.hub_cache}")
    if missing and servers.is_offline(context):
        names = " ".join(f"hf download {ref.target};" for ref in missing)
        text = f"HF_HUB_OFFLINE is set, and {', '.join(ref.target for ref in missing)} is not in {context.hub_cache}"
        yield error(text, f"unset HF_HUB_OFFLINE; or where there is a network: {names} and copy the cache")
        return
    for ref in missing:
        yield _judged(context, ref, context.web.get(servers.file_address(context, ref), servers.hub_headers(context)))


def _judged(context: Context, ref: ModelRef, reply: Reply) -> Finding:
    where = servers.host_of(reply.url)
    has_token = servers.has_token(context)
    page = f"{servers.endpoint(context)}/{ref.target}"
    if not reply.status:
        cure = "check HTTPS_PROXY and HF_ENDPOINT (a mirror), or use a folder: model.ref=path:FOLDER"
        return error(f"{where} cannot be reached for {ref.target}: {reply.fault}", cure)
    if reply.status < 400:
        return ok(f"{ref.target} can be had from {where}")
    if reply.code in ("RevisionNotFound", "EntryNotFound") or (reply.status == 404 and ref.selector and not reply.code):
        return error(f"{where} has {ref.target}, but not at {ref.selector or 'main'}", f"look at {page}/tree/main")
    if reply.code == "GatedRepo" or reply.status == 403:
        agreed = f"accept its licence at {page} with the account of HF_TOKEN"
        if has_token:
            return error(f"{where} refuses {ref.target} to this HF_TOKEN ({reply.status})", agreed)
        return error(f"{ref.target} is gated ({reply.status}) and there is no HF_TOKEN", f"{agreed}; export HF_TOKEN=…")
    if reply.status in (401, 404):
        cure = "hf auth whoami" if has_token else "export HF_TOKEN=… if it is private"
        return error(f"{where} has no {ref.target} that this user may see ({reply.status})", f"check the name; {cure}")
    return warning(f"{where} answers {reply.status} for {ref.target}", f"curl -sI {reply.url}")
