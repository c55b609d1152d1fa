// Shows answers. Everything that comes from the server is put in as text, never as markup.

export const byId = (id) => document.getElementById(id);

export function made(name, content, attributes = {}) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  for (const one of [content].flat()) if (one !== null && one !== undefined) element.append(one);
  return element;
}

export const title = (item) =>
  made("bdi", (item.title.trim() || "(no title)") + (item.year && !item.title.includes(item.year) ? ` (${item.year})` : ""));

const number = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export function claims(list, found) {
  list.replaceChildren(
    ...found.map((claim) => {
      const told = made("li", claim.said, { class: claim.true ? "true" : "false" });
      told.prepend(made("span", claim.true ? "true: " : "not true: ", { class: "visually-hidden" }));
      return told;
    }),
  );
}

function reason(told) {
  const whole = told.claims.length === 1 && told.claims[0].said.length > 0.8 * told.text.length;
  const list = made("ul", [], { class: "plain claims", "aria-label": "Its claims" });
  claims(list, whole ? [{ ...told.claims[0], said: told.text }] : told.claims);
  if (whole) return [list];
  const words = made("p", told.text, { dir: "auto" });
  if (told.source === "written") words.prepend(made("small", "the model wrote: "));
  return told.claims.length ? [words, list] : [words];
}

function entropy(item, most) {
  if (item.entropy_before === null || item.entropy_before === undefined) return [];
  const bar = made("meter", [], { min: 0, max: Math.max(most, 0.01), value: item.entropy_before });
  const after = item.steps ? `, ${number(item.entropy_after, 2)} after` : "";
  const words = `${number(item.entropy_before, 2)} nats of doubt${after}`;
  bar.setAttribute("aria-label", words);
  const steps = item.steps ? `${item.steps} latent ${item.steps === 1 ? "step" : "steps"}` : "no latent step";
  return [made("div", [bar, made("span", `${words} · ${steps}`)], { class: "entropy" })];
}

function move(item, others) {
  if (!others) return null;
  const was = others.get(item.item);
  if (was === undefined) return ["new", "up"];
  const by = was - item.place;
  if (!by) return ["=", ""];
  return by > 0 ? [`▲ ${by}`, "up"] : [`▼ ${-by}`, "down"];
}

function slate(list, answer, others, gone) {
  const most = Math.max(0, ...answer.items.map((item) => item.entropy_before ?? 0));
  list.replaceChildren(
    ...answer.items.map((item) => {
      const moved = gone ? (others.has(item.item) ? null : ["out", "down"]) : move(item, others);
      const row = made("li", [
        made("span", String(item.place), { class: "place" }),
        made("span", title(item), { class: "name" }),
        made("span", moved ? moved[0] : "", { class: `move ${moved ? moved[1] : ""}` }),
      ]);
      const more = [...entropy(item, most), ...(gone ? [] : item.reasons.flatMap(reason))];
      if (more.length) row.append(made("div", more, { class: "more" }));
      return row;
    }),
  );
}

const places = (answer) => new Map(answer.items.map((item) => [item.item, item.place]));

export function facts(answer) {
  const tokens = answer.stages.reduce((sum, stage) => sum + stage.tokens, 0);
  const left = answer.degraded ? ` Left out to keep the budget: ${answer.left_out.join("; ")}.` : "";
  return `${answer.history.length} in the history, ${number(answer.total_ms)} ms, ${tokens} tokens written.${left}`;
}

export function show(answer, before) {
  byId("unasked").hidden = true;
  byId("beside").hidden = byId("now-title").hidden = !before;
  byId("now-facts").textContent = facts(answer);
  slate(byId("now"), answer, before && places(before), false);
  byId("moved").textContent = "";
  if (before) {
    byId("before-facts").textContent = facts(before);
    slate(byId("before"), before, places(answer), true);
    const [was, now] = [places(before), places(answer)];
    const fresh = [...now.keys()].filter((item) => !was.has(item)).length;
    const stay = [...now].filter(([item, place]) => was.get(item) === place).length;
    byId("moved").textContent =
      `Of ${now.size} items ${stay} ${stay === 1 ? "keeps its place" : "keep their place"}, ` +
      `${now.size - stay - fresh} move and ${fresh} ${fresh === 1 ? "is" : "are"} new.`;
  }
  costs(answer, before);
}

// An answer about somebody else must not stand under a new history.
export function forget() {
  for (const id of ["before", "now", "costs", "moved", "before-facts", "now-facts"]) byId(id).replaceChildren();
  for (const id of ["beside", "now-title", "programs"]) byId(id).hidden = true;
  byId("unasked").hidden = false;
  if (byId("thinking")) byId("thinking").hidden = true;
}

function costs(answer, before) {
  const cells = (stage) => [`${number(stage.milliseconds, 1)} ms`, number(stage.tokens), number(stage.items)];
  const names = ["Stage", "Time", "Tokens", "Items handed on", ...(before ? ["Time before", "Tokens before"] : [])];
  const old = new Map((before ? before.stages : []).map((stage) => [stage.stage, stage]));
  const rows = answer.stages.map((stage) => {
    const was = old.get(stage.stage);
    const more = before ? (was ? cells(was).slice(0, 2) : ["–", "–"]) : [];
    return made("tr", [
      made("th", stage.stage, { scope: "row" }),
      ...[...cells(stage), ...more].map((words, at) => made("td", words, { "data-label": names[at + 1] })),
    ]);
  });
  const head = made("tr", names.map((name) => made("th", name, { scope: "col" })));
  byId("costs").replaceChildren(made("caption", "What each stage cost"), made("thead", head), made("tbody", rows));
}

export function programs(path, body, key) {
  const address = new URL(path, document.baseURI).href;
  const json = JSON.stringify(body, null, 2);
  const quoted = json.replaceAll("'", "'\\''");
  const header = key ? " \\\n  -H 'Authorization: Bearer YOUR_KEY'" : "";
  byId("curl").textContent = `curl ${address} \\\n  -H 'Content-Type: application/json'${header} \\\n  -d '${quoted}'`;
  const python = json.replaceAll("\\u", "\\\\u").replaceAll(/: (true|false|null)(,?)$/gm, (_, word, comma) =>
    `: ${{ true: "True", false: "False", null: "None" }[word]}${comma}`);
  byId("python").textContent =
    "import json\nimport urllib.request\n\n" +
    `body = ${python}\nheaders = {"Content-Type": "application/json"${key ? ', "Authorization": "Bearer YOUR_KEY"' : ""}}\n` +
    `request = urllib.request.Request("${address}", json.dumps(body).encode(), headers)\n` +
    "with urllib.request.urlopen(request) as answer:\n" +
    '    for item in json.load(answer)["items"]:\n        print(item["place"], item["title"])';
  byId("programs").hidden = false;
}
