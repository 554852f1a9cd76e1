// The specification's own library for JavaScript reads what Tollgate sends.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { Webhook, WebhookVerificationError } from "standardwebhooks";

const { TOLLGATE_URL: url, TOLLGATE_TOKEN: admin, TOLLGATE_OWN_TOKEN: owner, TOLLGATE_TENANT: tenant } = process.env;

const came = [];
let wake = () => {};
const server = createServer((request, response) => {
  const pieces = [];
  request.on("data", (piece) => pieces.push(piece));
  request.on("end", () => {
    came.push({ body: Buffer.concat(pieces).toString("utf8"), headers: request.headers });
    response.writeHead(204).end();
    wake();
  });
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));

async function next() {
  while (came.length === 0) await new Promise((resolve) => (wake = resolve));
  return came.shift();
}

async function call(method, path, token, body) {
  const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status}`);
  return answer.json();
}

const hook = await call("POST", "/v1/webhooks", owner, {
  url: `http://127.0.0.1:${server.address().port}/hook`,
  events: ["tenant.suspended", "tenant.activated"],
});
await call("POST", `/admin/v1/tenants/${tenant}/suspend`, admin);
const first = await next();
const event = new Webhook(hook.secret).verify(first.body, first.headers);
assert.equal(event.type, "tenant.suspended");
assert.equal(event.data.tenant_id, tenant);
assert.ok(Math.abs(Date.parse(event.timestamp) - Date.now()) < 60_000);

const refused = (secret, body, headers) =>
  assert.throws(() => new Webhook(secret).verify(body, headers), WebhookVerificationError);
refused("whsec_" + Buffer.alloc(32).toString("base64"), first.body, first.headers);
refused(hook.secret, first.body.replace("suspended", "activated"), first.headers);
refused(hook.secret, first.body, { ...first.headers, "webhook-id": "another" });
refused(hook.secret, first.body, { ...first.headers, "webhook-timestamp": "1614265330" });

// Both secrets sign for a while; a renewal is the administrator's here, since the tenant is suspended.
const renewed = await call("POST", `/admin/v1/webhooks/${hook.webhook_id}/secret`, admin, {});
await call("POST", `/admin/v1/tenants/${tenant}/activate`, admin);
const second = await next();
for (const secret of [hook.secret, renewed.secret]) {
  assert.equal(new Webhook(secret).verify(second.body, second.headers).type, "tenant.activated");
}
assert.notEqual(first.headers["webhook-id"], second.headers["webhook-id"]);
server.close();
server.closeAllConnections();
