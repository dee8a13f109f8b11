"""``voxpop pool``: people, the pools they work in, and from where they may connect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from voxpop.cli.options import ConfigOption, DataDirOption, JsonOption, RedisOption, examples
from voxpop.cli.output import Output, WrongInputError, table

if TYPE_CHECKING:
    from voxpop.broker import Pool

__all__ = ["app"]

app = typer.Typer(help="People: pools, members, allowlists.", no_args_is_help=True)

PoolArgument = Annotated[str, typer.Argument(metavar="POOL", help="Name of the pool.")]
SHOWN_MEMBERS = 12


class Refusal(NamedTuple):
    """Somebody who was told "not found", and how often."""

    worker: str
    reason: str
    times: int


@app.command(
    epilog=examples(
        "voxpop pool create team --member ann --member bob",
        "voxpop pool create vendor --workforce acme --allow 203.0.113.0/24",
    )
)
def create(
    pool: PoolArgument,
    workforce: Annotated[
        str, typer.Option(metavar="NAME", help="The workforce that it belongs to; made if it is missing.")
    ] = "private",
    member: Annotated[list[str] | None, typer.Option(metavar="WORKER", help="Somebody in it; may be repeated.")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="RANGE", help="From where the whole workforce may connect; may be repeated."),
    ] = None,
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a pool, or add people to one that is there."""
    from voxpop.cli.connection import connect, load_config
    from voxpop.cli.status import make_pool

    with connect(load_config(redis, data_dir, config)) as client:
        made = make_pool(client, pool, workforce, member or (), allow)
    Output(as_json=as_json).result(made, _described(made))


@app.command(epilog=examples("voxpop pool show", "voxpop pool show team --json"))
def show(
    pool: Annotated[str, typer.Argument(metavar="[POOL]", help="Name of the pool; all of them if left out.")] = "",
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one pool or all of them: people, allowlist, and who was refused."""
    from voxpop.cli.connection import connect, load_config

    out = Output(as_json=as_json)
    with connect(load_config(redis, data_dir, config)) as client:
        if pool:
            found = client.pool(pool)
            refused = _refusals(client.refusals(pool))
        else:
            pools = [client.pool(name) for name in client.pools()]
    if pool:
        shown = table("refused", "why", "how often", right=("how often",))
        for row in refused:
            shown.add_row(row.worker, WHY_REFUSED.get(row.reason, row.reason), f"{row.times:,}")
        out.result(
            {"pool": found, "refused": [one._asdict() for one in refused]},
            _described(found),
            *([shown] if refused else []),
        )
        return
    rows = table("pool", "workforce", "people", "may connect from", right=("people",))
    for one in pools:
        rows.add_row(one.name, one.workforce, f"{len(one.members):,}", ", ".join(one.allow) or "anywhere")
    out.result({"pools": pools}, rows if pools else "No pools yet; `voxpop pool create team --member ann` makes one.")


@app.command(epilog=examples("voxpop pool members team", "voxpop pool members team --add cleo --remove bob"))
def members(
    pool: PoolArgument,
    add: Annotated[list[str] | None, typer.Option(metavar="WORKER", help="Add somebody; may be repeated.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="WORKER", help="Take somebody out, at once; may be repeated.")
    ] = None,
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the people of a pool, one a line, after adding some or taking some out.

    Once the command returns, nobody who was taken out can claim or submit anything.
    """
    from voxpop.cli.connection import connect, load_config

    both = sorted(set(add or ()) & set(remove or ()))
    if both:
        raise WrongInputError(f"{', '.join(map(repr, both))} given to both --add and --remove; choose one")
    out = Output(as_json=as_json)
    with connect(load_config(redis, data_dir, config)) as client:
        added = client.add_members(pool, add) if add else 0
        removed = client.remove_members(pool, remove) if remove else 0
        found = client.pool(pool)
    if add or remove:
        out.note(f"{added} added, {removed} taken out.")
    out.result({"members": found.members, "added": added, "removed": removed}, "\n".join(found.members))


@app.command(
    epilog=examples("voxpop pool allow team 203.0.113.0/24 2001:db8::/32", "voxpop pool allow team --anywhere")
)
def allow(
    pool: PoolArgument,
    ranges: Annotated[
        list[str] | None, typer.Argument(metavar="RANGE...", help="Addresses or CIDR ranges, IPv4 or IPv6.")
    ] = None,
    anywhere: Annotated[bool, typer.Option("--anywhere", help="Lift the restriction.")] = False,
    redis: RedisOption = None,
    data_dir: DataDirOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say from where the pool's workforce may connect: replaces its allowlist.

    Holds for every pool of the same workforce. Once the command returns, nobody outside can claim or submit anything;
    to them it looks as if there were no job.
    """
    from voxpop.cli.connection import connect, load_config

    if bool(ranges) is anywhere:
        raise WrongInputError("give either the ranges from which people may connect, or --anywhere")
    with connect(load_config(redis, data_dir, config)) as client:
        workforce = client.set_allowlist(client.pool(pool).workforce, ranges or ())
    shown = ", ".join(workforce.allow) or "anywhere"
    Output(as_json=as_json).result(workforce, f"Workforce {workforce.name} may connect from: {shown}")


WHY_REFUSED = {"address": "address not allowed", "member": "not in the pool"}


def _described(pool: Pool) -> str:
    people = list(pool.members[:SHOWN_MEMBERS])
    if len(pool.members) > SHOWN_MEMBERS:
        people.append("...")
    return (
        f"Pool {pool.name} of workforce {pool.workforce}\n"
        f"  people            {len(pool.members):,}{': ' if people else ''}{', '.join(people)}\n"
        f"  may connect from  {', '.join(pool.allow) or 'anywhere'}"
    )


def _refusals(counts: dict[str, int]) -> list[Refusal]:
    """Sum up the refusals, which the broker counts by minute, by worker and reason."""
    totals: dict[tuple[str, str], int] = {}
    for field, count in counts.items():
        _, reason, worker = field.split("|", 2)
        totals[worker, reason] = totals.get((worker, reason), 0) + count
    return [Refusal(worker, reason, count) for (worker, reason), count in sorted(totals.items())]
