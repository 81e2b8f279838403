// Asks the server that this page is from, in several modes side by side.

const WHAT = {
  closed: "the base model alone",
  rag: "the passages in its prompt",
  poly: "the passages in its weights",
  combine: "both",
  routed: "a mixture made from the question",
};
const FROM_WEIGHTS = ["poly", "combine"];
const element = (id) => document.getElementById(id);
let served = "";
let asked = null; // {question, modes, top}
let passages = []; // as the search weighs them
let running = new Map(); // mode -> AbortController
let waiting = 0; // a timer

const headers = () => {
  const key = sessionStorage.getItem("key");
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
};

async function failureOf(response) {
  if (response.status === 401) element("access").hidden = false;
  try {
    return (await response.json()).error.message;
  } catch {
    return `the server answered ${response.status}`;
  }
}

function showFailure(text) {
  element("failure").textContent = text;
  element("failure").hidden = !text;
}

async function begin() {
  const response = await fetch("/v1/models", { headers: headers() }).catch(() => null);
  if (!response || !response.ok) {
    showFailure(response ? await failureOf(response) : "the server can't be reached");
    return;
  }
  element("access").hidden = true;
  showFailure("");
  const [base, ...others] = (await response.json()).data;
  served = base.id;
  document.title = element("name").textContent = served;
  element("base").textContent = base.root;
  const modes = others.map((each) => each.id.slice(served.length + 1));
  element("modes").querySelectorAll("label").forEach((label) => label.remove());
  for (const mode of modes) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: mode, checked: true });
    label.append(box, ` ${mode}`);
    label.title = WHAT[mode] ?? "";
    element("modes").append(label);
  }
}

function ask(event) {
  event.preventDefault();
  const question = element("question").value.trim();
  const modes = [...element("modes").querySelectorAll("input:checked")].map((box) => box.value);
  if (!question) return;
  if (!modes.length) return showFailure("choose at least one way to answer");
  stop();
  showFailure("");
  asked = { question, modes, top: Number(element("top").value) || null };
  passages = [];
  element("sources").hidden = true;
  element("answers").replaceChildren(...modes.map(card));
  for (const mode of modes) answer(mode, null);
}

function card(mode) {
  const article = element("answer").content.cloneNode(true).firstElementChild;
  article.dataset.mode = mode;
  article.querySelector("h2").textContent = mode;
  article.querySelector(".what").textContent = WHAT[mode] ?? "";
  return article;
}

async function answer(mode, mixture) {
  const article = document.querySelector(`article[data-mode="${mode}"]`);
  const text = article.querySelector(".text");
  const trust = article.querySelector(".trust");
  running.get(mode)?.abort();
  const control = new AbortController();
  running.set(mode, control);
  showBusy();
  article.className = "busy";
  text.textContent = "";
  trust.hidden = true;
  const started = performance.now();
  let first = 0;
  const polyprag = { gates: true };
  if (mixture) polyprag.mixture = mixture;
  else if (asked.top && mode !== "closed" && mode !== "routed") polyprag.top_k = asked.top;
  const body = {
    model: `${served}:${mode}`,
    messages: [{ role: "user", content: asked.question }],
    stream: true,
    stream_options: { include_usage: true },
    polyprag,
  };
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST",
      headers: headers(),
      body: JSON.stringify(body),
      signal: control.signal,
    });
    if (!response.ok) throw new Error(await failureOf(response));
    let tokens = 0;
    for await (const chunk of eventsOf(response)) {
      if (chunk.error) throw new Error(chunk.error.message);
      if (chunk.usage) tokens = chunk.usage.completion_tokens;
      const found = chunk.polyprag?.passages;
      if (found?.length && !mixture && isBetter(found)) showPassages(found);
      const delta = chunk.choices[0]?.delta ?? {};
      if (delta.content && !first) first = performance.now();
      text.textContent += delta.content ?? "";
      if (delta.refusal) text.textContent = "(no answer is given)";
      if (chunk.polyprag?.trust) showTrust(article, chunk.polyprag.trust);
    }
    const took = ((performance.now() - started) / 1000).toFixed(2);
    const begun = first ? `, begun after ${((first - started) / 1000).toFixed(2)} s` : "";
    article.querySelector(".about").textContent = `${tokens} token${tokens === 1 ? "" : "s"} in ${took} s${begun}`;
    if (!text.textContent.trim()) text.textContent = "(nothing)";
  } catch (error) {
    if (error.name !== "AbortError") showFailure(`${mode}: ${error.message}`);
  } finally {
    if (running.get(mode) === control) {
      running.delete(mode);
      article.classList.remove("busy");
    }
    showBusy();
  }
}

async function* eventsOf(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const data = event.slice("data: ".length);
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}

function showTrust(article, trust) {
  article.classList.toggle("doubtful", !trust.trusted);
  const line = article.querySelector(".trust");
  line.hidden = trust.trusted;
  const sure = trust.confidence === null ? "" : ` (confidence ${trust.confidence.toFixed(2)})`;
  line.textContent = `Don't trust this: ${trust.reason}${sure}`;
}

// All modes find the same passages; those that mix them say what each counts, too.
function isBetter(found) {
  return !passages.length || (passages[0].weight === null && found[0].weight !== null);
}

function showPassages(found) {
  passages = found;
  const weighed = FROM_WEIGHTS.some((mode) => asked.modes.includes(mode));
  element("passages").replaceChildren(...found.map((passage, at) => {
    const item = element("passage").content.cloneNode(true).firstElementChild;
    item.querySelector("h3").textContent = passage.title || passage.key;
    item.querySelector(".text").textContent = passage.text;
    const slider = item.querySelector("input");
    slider.id = `weight-${at}`;
    slider.dataset.key = passage.key;
    slider.value = passage.weight ?? 0;
    item.querySelector("label").htmlFor = slider.id;
    item.querySelector("label").textContent = "counts";
    item.querySelector("output").value = Number(slider.value).toFixed(2);
    item.querySelector(".weight").hidden = !weighed || passage.weight === null;
    slider.addEventListener("input", () => {
      item.querySelector("output").value = Number(slider.value).toFixed(2);
      clearTimeout(waiting);
      waiting = setTimeout(answerAnew, 250);
    });
    draw(item.querySelector("canvas"), passage);
    return item;
  }));
  element("reset").hidden = !weighed;
  element("sources").hidden = false;
}

function answerAnew() {
  const sliders = [...element("passages").querySelectorAll("input[type=range]")];
  const mixture = Object.fromEntries(sliders.map((slider) => [slider.dataset.key, Number(slider.value)]));
  for (const mode of FROM_WEIGHTS) if (asked.modes.includes(mode)) answer(mode, mixture);
}

function reset() {
  showPassages(passages);
  for (const mode of FROM_WEIGHTS) if (asked.modes.includes(mode)) answer(mode, null);
}

// A row for each site, a column for each expert; the strongest is as dark as can be.
function draw(canvas, passage) {
  canvas.hidden = !passage.gates;
  if (!passage.gates) return;
  const rows = passage.gates.length;
  const columns = passage.gates[0].length;
  canvas.width = columns;
  canvas.height = rows;
  canvas.setAttribute("aria-label", `mixture of ${passage.title || passage.key}: ${columns} experts at ${rows} sites`);
  const most = Math.max(...passage.gates.flat().map(Math.abs)) || 1;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  passage.gates.forEach((row, y) => row.forEach((gate, x) => {
    const pale = 235 * (1 - Math.abs(gate) / most);
    image.data.set(gate < 0 ? [235, pale, pale, 255] : [pale, pale, 235, 255], 4 * (y * columns + x));
  }));
  context.putImageData(image, 0, 0);
}

function stop() {
  for (const control of running.values()) control.abort();
  running.clear();
  showBusy();
}

function showBusy() {
  element("stop").hidden = !running.size;
}

element("ask").addEventListener("submit", ask);
element("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    element("ask").requestSubmit();
  }
});
element("stop").addEventListener("click", stop);
element("reset").addEventListener("click", reset);
element("keep").addEventListener("click", () => {
  sessionStorage.setItem("key", element("key").value);
  element("key").value = "";
  begin();
});
begin();
