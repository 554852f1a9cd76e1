"""OpenMeter's SDK for Python against a server: TOLLGATE_URL, TOLLGATE_TOKEN (the administrator's), TOLLGATE_OWN_TOKEN
(of a tenant's owner), TOLLGATE_TENANT (its id), TOLLGATE_OTHER (another tenant's). Ends with a failed assertion, or not."""

import asyncio
import datetime
from os import environ

from corehttp.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from openmeter import Client
from openmeter.aio import Client as AsyncClient
from openmeter.models import (
    Event,
    FilterString,
    MeterCreate,
    MeterQueryRequest,
    MeterUpdate,
    PortalToken,
)

URL, TENANT, OTHER = environ["TOLLGATE_URL"], environ["TOLLGATE_TENANT"], environ["TOLLGATE_OTHER"]
client = Client(endpoint=URL, token=environ["TOLLGATE_TOKEN"])
own = Client(endpoint=URL, token=environ["TOLLGATE_OWN_TOKEN"])

MINUTE = datetime.timedelta(minutes=1)
NOW = datetime.datetime.now(datetime.timezone.utc).replace(second=0, microsecond=0)
FROM, TO = NOW - datetime.timedelta(days=2), NOW + MINUTE


def refused(kind, status, call):
    try:
        call()
    except kind as error:
        assert error.status_code == status, error
        if status != 409:
            assert error.model.detail and error.model.title and error.model.status == status, error.model
        return
    raise AssertionError(f"{status} was expected")


def event(id, tokens, model="large", subject=TENANT, time=NOW - 5 * MINUTE):
    return Event(
        id=id,
        source="py",
        specversion="1.0",
        type="py-prompt",
        subject=subject,
        time=time,
        data={"tokens": tokens, "model": model},
    )


# Meters.
meter = client.meters.create(
    MeterCreate(
        slug="py_tokens",
        name="Tokens",
        description="Tokens used",
        aggregation="SUM",
        event_type="py-prompt",
        value_property="$.tokens",
        group_by={"model": "$.model"},
    )
)
assert (meter.slug, meter.aggregation, meter.group_by) == ("py_tokens", "SUM", {"model": "$.model"})
assert isinstance(meter.created_at, datetime.datetime)
assert client.meters.get("py_tokens") == meter and client.meters.get(meter.id) == meter
assert "py_tokens" in [one.slug for one in client.meters.list(order_by="key", page_size=1000)]
updated = client.meters.update("py_tokens", MeterUpdate(name="Tokens used"))
assert (updated.name, updated.description) == ("Tokens used", "Tokens used")
client.meters.create(MeterCreate(slug="py_count", aggregation="COUNT", event_type="py-prompt"))
refused(ResourceExistsError, 409, lambda: client.meters.create(meter))
refused(
    HttpResponseError,
    400,
    lambda: client.meters.create(MeterCreate(slug="py_bad", aggregation="SUM", event_type="x")),
)
refused(ResourceNotFoundError, 404, lambda: client.meters.get("py_nothing"))

# Events: one, several, again, and one that contradicts.
assert client.events.ingest_event(event("1", 1.5)) is None
client.events.ingest_events(
    [event("2", 2), event("3", "3", time=NOW - datetime.timedelta(hours=26)), event("4", 10, "small")]
)
client.events.ingest_events_json([event("5", 100, subject=OTHER)])
client.events.ingest_event(event("1", 1.5))
refused(ResourceExistsError, 409, lambda: client.events.ingest_event(event("1", 7)))
refused(HttpResponseError, 400, lambda: client.events.ingest_event(event("6", 1, subject="nobody")))
refused(HttpResponseError, 403, lambda: own.events.ingest_event(event("7", 1, subject=OTHER)))
refused(ClientAuthenticationError, 401, lambda: Client(endpoint=URL, token="wrong").events.list())

listed = client.events.list(from_parameter=FROM, to=TO, customer_id=[TENANT], limit=100)
listed = [one for one in listed if one.event.type == "py-prompt"]
assert sorted(one.event.id for one in listed) == ["1", "2", "3", "4"]
first = next(one for one in listed if one.event.id == "1")
assert first.event == event("1", 1.5) and first.customer_id == TENANT
assert isinstance(first.ingested_at, datetime.datetime) and isinstance(first.stored_at, datetime.datetime)

# Queries.
whole = client.meters.query_json("py_tokens")
assert [(row.value, row.subject, row.group_by) for row in whole.data] == [(116.5, None, {})]
grouped = client.meters.query_json("py_tokens", group_by=["subject", "model"])
assert {(row.subject, row.group_by["model"]): row.value for row in grouped.data} == {
    (TENANT, "large"): 6.5,
    (TENANT, "small"): 10,
    (OTHER, "large"): 100,
}
named = client.meters.query_json("py_tokens", subject=[TENANT, OTHER])
assert {row.subject: row.value for row in named.data} == {TENANT: 16.5, OTHER: 100}
customer = client.meters.query_json("py_tokens", filter_customer_id=[OTHER])
assert [(row.customer_id, row.value) for row in customer.data] == [(OTHER, 100)]
# A dictionary is sent as Python writes it.
for filters, value in [({"model": "small"}, 10), ({"model": ["small", "large"]}, 116.5), ({"model": "it's"}, None)]:
    found = client.meters.query_json("py_tokens", filter_group_by=filters)
    assert [row.value for row in found.data] == ([] if value is None else [value]), filters
advanced = {"model": FilterString(in_property=["small"])}
days = client.meters.query_json(
    "py_tokens",
    from_parameter=FROM,
    to=TO,
    window_size="DAY",
    window_time_zone="Asia/Tokyo",
    subject=[TENANT],
)
assert sum(row.value for row in days.data) == 16.5 and len(days.data) >= 2 and days.window_size == "DAY"
assert all(row.window_start.hour == 15 or row.window_start == FROM for row in days.data), days.data
assert (days.from_property, days.to) == (FROM, TO)
posted = client.meters.query(
    "py_tokens",
    MeterQueryRequest(
        from_property=FROM,
        to=TO,
        subject=[TENANT],
        group_by=["model"],
        filter_group_by={"model": ["large", "small"]},
        advanced_meter_group_by_filters=advanced,
    ),
)
assert [(row.group_by["model"], row.value) for row in posted.data] == [("small", 10)]
before = client.meters.query_json("py_tokens", from_parameter=FROM, to=NOW - 5 * MINUTE)
assert [row.value for row in before.data] == [3], "the end is exclusive"
assert [row.value for row in own.meters.query_json("py_tokens").data] == [16.5]
refused(HttpResponseError, 403, lambda: own.meters.query_json("py_tokens", subject=[OTHER]))
refused(HttpResponseError, 400, lambda: client.meters.query_json("py_tokens", window_size="WEEK"))
refused(ResourceNotFoundError, 404, lambda: client.meters.query_json("py_nothing"))
assert sorted(client.meters.list_subjects("py_tokens", from_parameter=FROM)) == sorted([TENANT, OTHER])
assert sorted(client.meters.list_group_by_values("py_tokens", "model", from_parameter=FROM)) == ["large", "small"]
lines = client.meters.query_csv("py_tokens", subject=[TENANT], group_by=["model"]).strip().split("\r\n")
assert lines[0] == "window_start,window_end,subject,model,value", lines
assert [line.split(",")[2:] for line in lines[1:]] == [[TENANT, "large", "6.5"], [TENANT, "small", "10"]]
assert client.meters.query_csv_post("py_tokens").strip().endswith(",116.5")

# What a customer may use.
access = client.customer.get_customer_access(TENANT)
assert access.entitlements["reports"].has_access is True and access.entitlements["reports"].balance is None
apis = client.customer_entitlement_v2.get_customer_entitlement_value(TENANT, "apis", time=NOW)
assert apis.has_access and apis.overage == 0 and apis.balance + apis.usage == apis.total_available_grant_amount
assert client.customer_entitlement.get_customer_entitlement_value(TENANT, "reports").has_access is True
refused(ResourceNotFoundError, 404, lambda: own.customer.get_customer_access(OTHER))
refused(
    ResourceNotFoundError,
    404,
    lambda: client.customer_entitlement_v2.get_customer_entitlement_value(TENANT, "teleporter"),
)

# The portal.
token = client.portal.portal_tokens.create(PortalToken(subject=TENANT, allowed_meter_slugs=["py_tokens"]))
assert token.subject == TENANT and token.expires_at > NOW and token.expired is False and token.id
portal = Client(endpoint=URL, token=token.token).portal.portal_meters
shown = portal.query_json("py_tokens", from_parameter=FROM, to=TO, group_by=["model"])
assert {row.group_by["model"]: (row.subject, row.value) for row in shown.data} == {
    "large": (TENANT, 6.5),
    "small": (TENANT, 10),
}
assert portal.query_csv("py_tokens").strip().endswith(f"{TENANT},16.5")
refused(HttpResponseError, 403, lambda: portal.query_json("py_count"))
refused(ClientAuthenticationError, 401, lambda: client.portal.portal_meters.query_json("py_tokens"))
refused(ClientAuthenticationError, 401, lambda: Client(endpoint=URL, token=token.token).meters.query_json("py_tokens"))


async def concurrently():
    """The client for asyncio is another one."""
    async with AsyncClient(endpoint=URL, token=environ["TOLLGATE_OWN_TOKEN"]) as client:
        await asyncio.gather(*(client.events.ingest_event(event(f"a{n % 5}", 1, "async")) for n in range(20)))
        found = await client.meters.query_json("py_tokens", filter_group_by={"model": "async"})
        assert [row.value for row in found.data] == [5]


asyncio.run(concurrently())
client.meters.delete("py_count")
refused(ResourceNotFoundError, 404, lambda: client.meters.get("py_count"))
print("all of it")
