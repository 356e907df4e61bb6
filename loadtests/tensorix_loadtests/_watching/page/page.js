// Draws the last minutes of a run. Whatever came from a server is set as text, never as markup.
"use strict";
(() => {
  const MOST = 600;
  const CHARTS = [
    ["Time to first token, of the last 10 s", time, [["ttft_p50", "p50", "blue"], ["ttft_p95", "p95", "orange", true]]],
    ["Output tokens a second", number, [["tokens", "tokens/s", "blue"]]],
    ["Requests a second by outcome", number, [
      ["success", "success", "green"], ["throttled", "throttled (429)", "orange", true],
      ["failed", "failed", "red"], ["cancelled", "cancelled", "grey", true]]],
    ["Users and requests in flight", whole, [["users", "users", "blue"], ["in_flight", "in flight", "orange", true]]],
    ["Remaining requests", whole, [["left_requests", "of the cap", "blue"], ["remaining_requests", "of the limit", "orange", true]]],
    ["Remaining tokens", whole, [["left_tokens", "of the cap", "blue"], ["remaining_tokens", "of the limit", "orange", true]]],
    ["Remaining money", number, [["left_money", "of the cap", "blue"]]],
    ["The load generator's own delays", time, [["lag", "event loop, at most", "blue"], ["delay", "dispatch, p99", "orange", true]]],
    ["The load generator's processor, of a core", percent, [["cpu", "busiest process", "blue"]]],
  ];
  const TOTALS = [
    ["Requests", "requests", whole], ["Success", "success", whole], ["Throttled (429)", "throttled", whole],
    ["Failed", "failed", whole], ["Cancelled", "cancelled", whole], ["TTFT p50", "ttft_p50", time],
    ["TTFT p95", "ttft_p95", time], ["Output tokens", "tokens", whole], ["Cost", "cost", number], ["Lasts", "seconds", span],
  ];
  let run = null, last = 0, points = [], columns = [];

  function number(value) { return value >= 1000 ? whole(value) : String(Number(value.toPrecision(3))); }
  function whole(value) { return Math.round(value).toLocaleString("en"); }
  function time(value) { return value < 1 ? `${Number((value * 1000).toPrecision(3))} ms` : `${Number(value.toPrecision(3))} s`; }
  function percent(value) { return `${Math.round(value * 100)} %`; }
  function span(value) {
    const s = Math.floor(value), two = (n) => String(n).padStart(2, "0");
    return s < 3600 ? `${Math.floor(s / 60)}:${two(s % 60)}` : `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  }

  const node = (name, attributes = {}, text = null) => {
    const svg = ["svg", "polyline", "line", "text"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };

  // The next of 1, 2, 5 times a power of ten.
  const ceiling = (value) => {
    if (!(value > 0)) return 1;
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 5, 10].map((step) => step * power).find((bound) => bound >= value * 0.999);
  };

  const WIDTH = 600, HEIGHT = 170, LEFT = 58, BOTTOM = 18, TOP = 8;

  function draw([title, form, series]) {
    const shown = series.filter(([key]) => points.some((point) => point[columns.indexOf(key)] !== null));
    if (!shown.length) return null;
    const newest = points.at(-1)[0], oldest = Math.min(points[0][0], newest - 30);
    const values = shown.flatMap(([key]) => points.map((point) => point[columns.indexOf(key)] ?? 0));
    const top = ceiling(values.reduce((most, value) => Math.max(most, value), 0));
    const x = (at) => LEFT + ((at - oldest) / (newest - oldest)) * (WIDTH - LEFT - 4);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
    const figure = node("figure"), caption = node("figcaption", {}, title);
    const latest = [];
    for (const [key, name, colour] of shown) {
      const value = points.at(-1)[columns.indexOf(key)];
      latest.push(`${name} ${value === null ? "unknown" : form(value)}`);
      caption.append(node("span", { class: colour }, latest.at(-1)));
    }
    const picture = node("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${latest.join(", ")}` });
    for (const part of [0, 0.5, 1]) {
      picture.append(node("line", { class: "grid", x1: LEFT, x2: WIDTH - 4, y1: y(part * top), y2: y(part * top) }));
      picture.append(node("text", { x: LEFT - 6, y: y(part * top) + 4, "text-anchor": "end" }, form(part * top)));
    }
    picture.append(node("text", { x: LEFT, y: HEIGHT - 4 }, `${span(newest - oldest)} ago`));
    picture.append(node("text", { x: WIDTH - 4, y: HEIGHT - 4, "text-anchor": "end" }, clock(newest)));
    for (const [key, , colour, dashed] of shown) {
      let line = [];
      const finish = () => {
        if (line.length === 1) line.push(line[0].replace(/^([\d.]+)/, (at) => String(Number(at) + 1)));
        if (line.length) picture.append(node("polyline", { class: colour + (dashed ? " dashed" : ""), points: line.join(" ") }));
        line = [];
      };
      for (const point of points) {
        const value = point[columns.indexOf(key)];
        if (value === null) finish(); else line.push(`${x(point[0]).toFixed(1)},${y(value).toFixed(1)}`);
      }
      finish();
    }
    figure.append(caption, picture);
    return figure;
  }

  function clock(at) { return new Date(at * 1000).toLocaleTimeString("en-GB"); }

  function show(told) {
    const about = document.getElementById("about");
    if (told.run === null) { about.textContent = "Waiting for a run."; return; }
    if (told.run.id !== run) { run = told.run.id; points = []; }
    columns = told.columns;
    points = points.concat(told.points).slice(-MOST);
    last = told.number;
    const end = told.run.end === null ? "" : ` It ends: ${told.run.words ?? told.run.end}.`;
    about.textContent = `${told.run.model} at ${told.run.server}, run ${told.run.id}.${end}`;
    about.classList.toggle("over", told.run.end !== null);
    const totals = TOTALS.filter(([, key]) => told.totals[key] !== null).map(([name, key, form]) => {
      const one = node("div");
      one.append(node("dt", {}, name), node("dd", {}, form(told.totals[key])));
      return one;
    });
    document.getElementById("totals").replaceChildren(...totals);
    if (points.length) document.getElementById("charts").replaceChildren(...CHARTS.map(draw).filter(Boolean));
    document.documentElement.dataset.drawn = String(last);
  }

  async function look() {
    let pause = 1000;
    try {
      const asked = run === null ? "" : `?run=${encodeURIComponent(run)}&since=${last}`;
      const answer = await fetch(`./data${asked}`, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      show(await answer.json());
    } catch {
      const about = document.getElementById("about");
      if (run !== null && !about.dataset.gone) {
        about.dataset.gone = "1";
        about.textContent += " The load generator answers no more: this is the last that it said.";
      }
      pause = 5000;
    }
    setTimeout(look, pause);
  }
  look();
})();
