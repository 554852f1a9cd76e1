// Passkeys, which browsers give to scripts alone. The form says where the options come from and where the answer goes.
"use strict";

const form = document.getElementById("passkey");

function bytes(text) {
  const plain = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  return Uint8Array.from(plain, (c) => c.charCodeAt(0));
}

function text(buffer) {
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

async function post(address, query, body) {
  const answer = await fetch(`${address}?${query}`, {
    method: "POST",
    headers: body ? { "content-type": "application/json" } : {},
    body: body && JSON.stringify(body),
  });
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.detail ? `This did not work: ${value.detail}.` : "This did not work.");
  return value;
}

async function make(options) {
  options.challenge = bytes(options.challenge);
  options.user.id = bytes(options.user.id);
  for (const known of options.excludeCredentials || []) known.id = bytes(known.id);
  const made = await navigator.credentials.create({ publicKey: options });
  const { attestationObject, clientDataJSON } = made.response;
  return {
    id: made.id,
    rawId: text(made.rawId),
    type: made.type,
    extensions: {},
    response: { attestationObject: text(attestationObject), clientDataJSON: text(clientDataJSON) },
  };
}

async function sign(options) {
  options.challenge = bytes(options.challenge);
  for (const known of options.allowCredentials || []) known.id = bytes(known.id);
  const signed = await navigator.credentials.get({ publicKey: options });
  const { authenticatorData, clientDataJSON, signature, userHandle } = signed.response;
  return {
    id: signed.id,
    rawId: text(signed.rawId),
    type: signed.type,
    extensions: {},
    response: {
      authenticatorData: text(authenticatorData),
      clientDataJSON: text(clientDataJSON),
      signature: text(signature),
      userHandle: userHandle ? text(userHandle) : null,
    },
  };
}

function showCodes(codes, location) {
  const list = document.createElement("ul");
  list.className = "codes";
  for (const code of codes) {
    const item = document.createElement("li");
    item.textContent = code;
    list.append(item);
  }
  const words = document.createElement("p");
  words.setAttribute("role", "status");
  words.tabIndex = -1;
  words.textContent = "Keep these recovery codes. Each works once, and they are not shown again:";
  const on = document.createElement("a");
  on.href = location;
  on.textContent = "Go on";
  form.replaceChildren(words, list, on);
  // The button that had the focus is gone.
  words.focus();
}

// What browsers say is for developers (WebAuthn Level 2, sections 5.1.3 and 5.1.4).
function words(error) {
  if (error.name === "NotAllowedError") return "No passkey was used. You can try again.";
  if (error.name === "InvalidStateError") return "This device has a passkey for this account already.";
  return error.message;
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fault = document.getElementById("passkey-fault");
  const button = form.querySelector("button");
  fault.hidden = true;
  button.disabled = true;
  try {
    if (!window.PublicKeyCredential) throw new Error("This browser has no passkeys, or not at this address.");
    const query = new URLSearchParams(new FormData(form)).toString();
    const { publicKey } = await post(form.dataset.options, query);
    const answer = publicKey.user ? await make(publicKey) : await sign(publicKey);
    const { location, recovery_codes } = await post(form.dataset.finish, query, answer);
    if (recovery_codes?.length) showCodes(recovery_codes, location);
    else window.location.assign(location);
  } catch (error) {
    fault.textContent = words(error);
    fault.hidden = false;
    button.disabled = false;
    button.focus();
  }
});
