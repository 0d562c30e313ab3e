// Sends real requests for a file of this site and shows what the server answered.

const FILE = new URL("../img/connections.webp", import.meta.url);
const panel = document.querySelector(".try");
const wire = panel.querySelector(".wire");
const buttons = [...panel.querySelectorAll("button")];

// The name of a button's data-request: what is sent, given the answer to a plain HEAD.
const REQUESTS = {
  head: () => ["HEAD", {}],
  get: () => ["GET", {}],
  again: (known) => ["GET", conditional(known)],
  range: () => ["GET", { Range: "bytes=0-99" }],
  beyond: () => ["GET", { Range: "bytes=99999999-" }],
  post: () => ["POST", {}],
};

function conditional(known) {
  const tag = known.headers.get("ETag");
  if (tag) return { "If-None-Match": tag };
  const date = known.headers.get("Last-Modified");
  return date ? { "If-Modified-Since": date } : {};
}

function line(text, kind) {
  const span = document.createElement("span");
  span.className = kind;
  span.textContent = `${text}\n`;
  return span;
}

async function send(name) {
  const known = name === "again" ? await fetch(FILE, { method: "HEAD", cache: "no-store" }) : null;
  const [method, headers] = REQUESTS[name](known);
  const answer = await fetch(FILE, { method, headers, cache: "no-store" });
  const size = (await answer.arrayBuffer()).byteLength;
  wire.replaceChildren(
    line(`${method} ${FILE.pathname}`, "sent"),
    ...Object.entries(headers).map(([key, value]) => line(`${key}: ${value}`, "sent")),
    line("", "sent"),
    line(`${answer.status} ${answer.statusText}`, "status"),
    ...[...answer.headers].map(([key, value]) => line(`${key}: ${value}`, "got")),
    line("", "got"),
    line(size === 0 ? "no body" : `${size.toLocaleString("en")} bytes of body`, "sent"),
  );
}

async function press(button) {
  for (const one of buttons) one.setAttribute("aria-pressed", String(one === button));
  try {
    await send(button.dataset.request);
  } catch (error) {
    wire.replaceChildren(line(`The request failed: ${error.message}`, "status"));
  }
}

for (const button of buttons) {
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => press(button));
}
panel.hidden = false;
press(buttons[0]);
