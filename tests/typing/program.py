"""Never run: mypy reads it, and ``test_client.py`` compares its reports with the comments."""

from typing import reveal_type

from voxpop.broker import Answer, AsyncClient, Client, ItemEnd, JobSpec, Settlement


def sync(client: Client, spec: JobSpec) -> None:
    claim = client.claim("job", "ann", "10.0.0.1", 5, wait_seconds=1.0)
    reveal_type(claim)  # expect: voxpop.broker.models.Claim"
    reveal_type(claim.leases)  # expect: "tuple[voxpop.broker.models.Lease, ...]"
    answers = [Answer(lease.token, "a") for lease in claim.leases]
    reveal_type(client.submit("job", "ann", "10.0.0.1", answers))  # expect: list[voxpop.broker.models.Receipt]"
    reveal_type(client.renew("job", "ann", "10.0.0.1", ["t"]))  # expect: "dict[str, int]"
    reveal_type(client.create_job(spec))  # expect: voxpop.broker.models.Job"
    reveal_type(client.append("job", 3, ids=["x", "y", "z"]))  # expect: "int"
    reveal_type(client.settle("job", [Settlement(0, ItemEnd.LABELED)]))  # expect: "bool"
    reveal_type(client.pool("team"))  # expect: voxpop.broker.models.Pool"
    reveal_type(client.shard_state("job"))  # expect: voxpop.broker.models.ShardState"
    client.claim("job", "ann")  # expect: Too few arguments
    client.claim("job", "ann", "10.0.0.1", count=5)  # expect: Unexpected keyword argument "count"
    client.claim("job", "ann", "10.0.0.1", "5")  # expect: incompatible type "str"; expected "int"
    client.submit("job", "ann", "10.0.0.1", [claim])  # expect: List item 0 has incompatible type "Claim"
    client.stop_job("job", True)  # expect: Too many
    client.nothing()  # expect: has no attribute "nothing"
    JobSpec(name="a", task_type="t", pool="p", assignment="all")  # expect: incompatible type "Literal['all']"


async def asynchronous(client: AsyncClient) -> None:
    reveal_type(await client.claim("job", "ann", "10.0.0.1"))  # expect: voxpop.broker.models.Claim"
    reveal_type(await client.append("job", 3))  # expect: "int"
    claim = client.claim("job", "ann", "10.0.0.1")
    print(claim.leases)  # noqa: T201 - any use will do  # expect: has no attribute "leases"
    await client.claim("job", "ann", "10.0.0.1", count=5)  # expect: Unexpected keyword argument "count"
