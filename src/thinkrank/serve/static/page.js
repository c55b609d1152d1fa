// Asks the routes for programs; see page_answer.js for how answers are shown.

import { byId, claims, forget, made, programs, show, title } from "./page_answer.js";

const main = byId("main");
const writes = main.dataset.writes === "yes";
const state = { history: [], user: null, edited: false, answer: null, before: null, busy: null, found: [], chosen: -1 };

function key() {
  return sessionStorage.getItem("key") ?? "";
}

async function call(path, options = {}) {
  const headers = { ...(options.body ? { "Content-Type": "application/json" } : {}), ...(key() ? { Authorization: `Bearer ${key()}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  byId("unlock").hidden = response.status !== 401;
  if (response.ok) return response;
  const told = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
  const again = response.headers.get("Retry-After");
  throw new Error(told.error + (again && response.status === 429 ? `, or press Recommend then` : ""));
}

function fault(words) {
  byId("fault").textContent = words;
  byId("fault").hidden = !words;
}

function status(words) {
  byId("status").textContent = words;
}

// The history

function drawHistory() {
  byId("empty").hidden = state.history.length > 0;
  byId("clear").hidden = !state.history.length && !state.user;
  byId("history").replaceChildren(
    ...state.history.map((item, index) => {
      const out = made("button", "Take out", { type: "button" });
      out.setAttribute("aria-label", `Take out ${item.title}`);
      out.addEventListener("click", () => takeOut(index));
      return made("li", [made("span", title(item)), out]);
    }),
  );
}

function takeOut(index) {
  const [item] = state.history.splice(index, 1);
  state.edited = true;
  drawHistory();
  status(`${item.title} is out of the history.`);
  const buttons = byId("history").querySelectorAll("button");
  (buttons[Math.min(index, buttons.length - 1)] ?? byId("search")).focus();
  if (state.answer) ask();
}

function add(item) {
  state.history.push(item);
  state.edited = true;
  byId("search").value = "";
  delete byId("found").dataset.query;
  closeFound();
  drawHistory();
  byId("history").scrollTop = byId("history").scrollHeight;
  status(`${item.title} is added, the newest of ${state.history.length}.`);
}

function startOver(history = [], user = null) {
  state.busy?.abort();
  Object.assign(state, { history, user, edited: false, answer: null, before: null, busy: null });
  byId("stop").hidden = true;
  byId("ask").disabled = false;
  forget();
  drawHistory();
}

async function takeUser(user) {
  fault("");
  byId("ask").disabled = true; // until the history is there
  try {
    const body = JSON.stringify({ user, k: 1, think: main.dataset.thinks ? false : null, reasons: 0 });
    const answer = await (await call("v1/recommend", { method: "POST", body })).json();
    startOver(answer.history, user);
    status(`The history of ${user}: ${answer.history.length} items.`);
    byId("ask").focus();
  } catch (error) {
    byId("ask").disabled = false;
    fault(error.message);
  }
}

// The search

let waiting;
let asked = 0;

function closeFound() {
  clearTimeout(waiting);
  asked += 1; // what is still to come is of no use
  state.found = [];
  state.chosen = -1;
  byId("found").hidden = true;
  byId("search").setAttribute("aria-expanded", "false");
  byId("search").removeAttribute("aria-activedescendant");
}

function choose(index) {
  state.chosen = index;
  [...byId("found").children].forEach((one, at) => one.setAttribute("aria-selected", String(at === index)));
  const one = byId("found").children[index];
  if (!one) return;
  one.scrollIntoView({ block: "nearest" });
  byId("search").setAttribute("aria-activedescendant", one.id);
}

async function search() {
  const query = byId("search").value.trim();
  clearTimeout(waiting);
  const turn = ++asked;
  if (!query) return closeFound();
  try {
    const found = await (await call(`v1/items?limit=12&query=${encodeURIComponent(query)}`)).json();
    if (turn !== asked) return;
    state.found = found.items;
    byId("found").dataset.query = query;
    byId("found").replaceChildren(
      ...found.items.map((item, index) => {
        const one = made("li", title(item), { role: "option", id: `found-${index}`, "aria-selected": "false" });
        one.addEventListener("mousedown", (event) => event.preventDefault());
        one.addEventListener("click", () => add(item));
        return one;
      }),
    );
    byId("found").hidden = !found.items.length;
    byId("search").setAttribute("aria-expanded", String(found.items.length > 0));
    status(found.total ? `${found.total} titles found.` : "No title has these words.");
    if (found.items.length) choose(0);
  } catch (error) {
    fault(error.message);
  }
}

// Whoever types fast and presses Enter means what the field says, not what was found for its first letters.
async function enter() {
  const isNew = () => byId("search").value.trim() !== byId("found").dataset.query;
  if (isNew()) await search();
  if (!isNew() && state.found[state.chosen]) add(state.found[state.chosen]);
}

byId("search").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(search, 120);
});
byId("search").addEventListener("keydown", (event) => {
  const last = state.found.length - 1;
  if (event.key === "ArrowDown" && last >= 0) choose(state.chosen < last ? state.chosen + 1 : 0);
  else if (event.key === "ArrowUp" && last >= 0) choose(state.chosen > 0 ? state.chosen - 1 : last);
  else if (event.key === "Enter") enter();
  else if (event.key === "Escape") closeFound();
  else return;
  event.preventDefault();
});
byId("search").addEventListener("blur", closeFound);

// The question

function question(thought) {
  const body = { k: Number(byId("k").value) };
  if (state.user !== null) body.user = state.user;
  // the known history also holds times, ratings and weights, so it is sent only where it was changed
  if (state.user === null || state.edited) body.history = state.history.map((item) => item.item);
  const think = byId("think")?.value;
  if (think) body.think = think === "auto" ? think : think === "true";
  const temperature = byId("temperature")?.value;
  if (temperature) body.temperature = Number(temperature);
  if (byId("budget").value) body.budget_ms = Number(byId("budget").value);
  if (thought !== undefined) Object.assign(body, { thought, think: true });
  return body;
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    for (let end; (end = text.indexOf("\n\n")) >= 0; text = text.slice(end + 2)) {
      const lines = text.slice(0, end).split("\n");
      const field = (name) => lines.filter((line) => line.startsWith(`${name}: `)).map((line) => line.slice(name.length + 2)).join("\n");
      if (field("event")) yield { kind: field("event"), data: JSON.parse(field("data")) };
    }
  }
}

async function ask(thought) {
  state.busy?.abort();
  const busy = (state.busy = new AbortController());
  const body = question(thought);
  fault("");
  status("Asking …");
  programs("v1/recommend", body, key());
  byId("stop").hidden = false;
  byId("ask").disabled = true;
  if (writes) begin(thought !== undefined);
  try {
    const response = await call("v1/recommend/stream", { method: "POST", body: JSON.stringify(body), signal: busy.signal });
    for await (const { kind, data } of events(response)) {
      if (kind === "thought" && writes) hear(data);
      else if (kind === "fault") throw new Error(data.error);
      else if (kind === "answer") done(data);
    }
  } catch (error) {
    if (busy === state.busy) {
      status("");
      fault(error.name === "AbortError" ? "Stopped: nothing more is written." : error.message);
    }
  } finally {
    if (busy === state.busy) {
      byId("stop").hidden = true;
      byId("ask").disabled = false;
      byId("thought")?.classList.remove("writing");
    }
  }
}

function begin(given) {
  byId("thinking").hidden = byId("think")?.value === "false" && !given;
  byId("thought").textContent = "";
  byId("thought").classList.add("writing");
  byId("thought-facts").textContent = "";
  claims(byId("thought-claims"), []);
}

function hear({ place, text }) {
  const quote = byId("thought");
  if (place !== state.place && quote.textContent) quote.append("\n");
  state.place = place;
  quote.append(text);
}

function done(answer) {
  state.before = state.answer;
  state.answer = answer;
  if (writes) {
    const thought = answer.thought;
    byId("thinking").hidden = !thought;
    if (thought) {
      byId("thought").textContent = thought.text || "(it wrote nothing)";
      const faults = thought.faults.length ? ` Not to be shown to others: ${thought.faults.join("; ")}.` : "";
      byId("thought-facts").textContent = `${thought.tokens} tokens, ${thought.finish_reason.replaceAll("_", " ")}.${faults}`;
      claims(byId("thought-claims"), thought.claims);
      byId("own").value = thought.text;
    }
  }
  show(answer, state.before);
  status(`Answered: ${answer.items.length} items.`);
}

byId("question").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
byId("stop").addEventListener("click", () => state.busy?.abort());
byId("rethink")?.addEventListener("submit", (event) => {
  event.preventDefault();
  ask(byId("own").value);
});
byId("pick")?.addEventListener("submit", (event) => {
  event.preventDefault();
  takeUser(byId("user").value.trim());
});
for (const button of document.querySelectorAll("[data-user]")) {
  button.addEventListener("click", () => {
    byId("user").value = button.dataset.user;
    takeUser(button.dataset.user);
  });
}
byId("clear").addEventListener("click", () => {
  startOver();
  byId("search").focus();
});
byId("unlock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", byId("key").value);
  byId("key").value = "";
  byId("unlock").hidden = true;
  fault("");
});
for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(byId(button.dataset.copy).textContent);
      status("Copied.");
    } catch {
      getSelection().selectAllChildren(byId(button.dataset.copy));
      status("Selected: copy it with the keyboard.");
    }
  });
}
