"use strict";
// Draws the pictures and keeps their time axes together: a drag in one of them zooms all.
(() => {
  const drawings = JSON.parse(document.getElementById("drawings").textContent);
  const button = document.getElementById("whole");
  const views = new Map();
  let range = null;

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // The rows come by column, and texts as numbers of a list.
  const unpacked = (columns) => {
    const named = Object.entries(columns).map(([name, { values, texts, codes }]) =>
      [name, values ?? codes.map((code) => (code < 0 ? null : texts[code]))]);
    return (named[0]?.[1] ?? []).map((_, row) => Object.fromEntries(named.map(([name, values]) => [name, values[row]])));
  };

  const look = () => ({
    background: "transparent",
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      labelColor: colour("--soft"), titleColor: colour("--soft"), gridColor: colour("--grid"),
      domainColor: colour("--line"), tickColor: colour("--line"), titleFontWeight: "normal",
      labelFontSize: 11, titleFontSize: 11, labelOverlap: true,
    },
    legend: { labelColor: colour("--ink"), labelFontSize: 12 },
  });

  const show = async (wanted) => {
    range = wanted;
    button.disabled = range === null;
    await Promise.all([...views.values()].filter(({ whole }) => whole).map(({ view, whole }) =>
      view.signal("t0", (range ?? whole)[0]).signal("t1", (range ?? whole)[1]).runAsync()));
  };

  // A picture without a range is not zoomed.
  const wholeOf = ({ params }) => {
    const value = (name) => params?.find((one) => one.name === name)?.value;
    return value("t0") === undefined ? null : [value("t0"), value("t1")];
  };

  const draw = async (id, { spec, data }) => {
    const place = document.getElementById(`picture-${id}`);
    const whole = wholeOf(spec);
    const narrow = place.clientWidth < 480;
    const fitted = structuredClone(spec);
    fitted.config = look();
    // Vega puts the description where the page has the picture in words.
    fitted.description = place.getAttribute("aria-label");
    fitted.datasets = Object.fromEntries(Object.entries(data).map(([name, columns]) => [name, unpacked(columns)]));
    for (const { encoding } of narrow ? fitted.layer : []) {
      // Names beside a picture leave it most of a narrow window.
      const axis = encoding.y?.axis;
      if (axis?.labelLimit) axis.labelLimit = Math.min(axis.labelLimit, place.clientWidth * 0.4);
      for (const channel of ["color", "shape", "stroke", "strokeDash"]) {
        const legend = encoding[channel]?.legend;
        if (legend) Object.assign(legend, { columns: 2, labelLimit: (place.clientWidth - 100) / 2 });
      }
    }
    views.get(id)?.result.finalize();
    // `ast`: expressions are interpreted, not compiled, so the page's policy need not allow eval.
    const result = await vegaEmbed(place, fitted, {
      ast: true, actions: false, renderer: "svg", defaultStyle: false,
      tooltip: { disableDefaultStyle: true, offsetX: 12, offsetY: 12 },
    });
    views.set(id, { view: result.view, whole, result });
    if (range && whole) await result.view.signal("t0", range[0]).signal("t1", range[1]).runAsync();
  };

  const zoomable = (id, place) => {
    let from = null;
    let band = null;
    const at = (event) => {
      const { view } = views.get(id);
      const box = place.getBoundingClientRect();
      const left = view.origin()[0];
      const x = Math.min(Math.max(event.clientX - box.left, left), left + view.width());
      return { x, t: view.scale("x").invert(x - left) };
    };
    place.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button !== 0 || !views.has(id)) return;
      from = at(event);
      band = document.createElement("div");
      band.className = "band";
      band.style.top = `${views.get(id).view.origin()[1]}px`;
      band.style.height = `${views.get(id).view.height()}px`;
      place.append(band);
    });
    window.addEventListener("pointermove", (event) => {
      if (!from) return;
      const to = at(event);
      band.style.left = `${Math.min(from.x, to.x)}px`;
      band.style.width = `${Math.abs(to.x - from.x)}px`;
    });
    window.addEventListener("pointerup", (event) => {
      if (!from) return;
      const [start, to] = [from, at(event)];
      from = null;
      band.remove();
      if (Math.abs(to.x - start.x) >= 6) show([Math.min(start.t, to.t), Math.max(start.t, to.t)]);
    });
    place.addEventListener("dblclick", () => show(null));
  };

  const drawAll = async () => {
    for (const [id, drawing] of Object.entries(drawings)) await draw(id, drawing);
    document.documentElement.dataset.drawn = String(views.size);
  };

  // The same facts without a mouse: built when asked for, so that a page opens as quickly as without them.
  const MOST_ROWS = 500;
  const cell = (row, kind, text) => { row.append(Object.assign(document.createElement(kind), { textContent: text })); };
  const tabled = (place, name, rows) => {
    const table = document.createElement("table");
    const columns = Object.keys(rows[0] ?? {});
    const caption = table.createCaption();
    caption.textContent = rows.length > MOST_ROWS ? `${name}: the first ${MOST_ROWS} of ${rows.length} marks` : name;
    const head = table.createTHead().insertRow();
    for (const column of columns) cell(head, "th", column);
    for (const th of head.cells) th.scope = "col";
    const body = table.createTBody();
    for (const row of rows.slice(0, MOST_ROWS)) {
      const line = body.insertRow();
      for (const column of columns) cell(line, "td", row[column] ?? "–");
    }
    const scroll = Object.assign(document.createElement("div"), { className: "scroll", tabIndex: 0 });
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `Data: ${name}`);
    scroll.append(table);
    place.append(scroll);
  };
  for (const place of document.querySelectorAll("details.data")) {
    place.addEventListener("toggle", () => {
      for (const [name, columns] of Object.entries(drawings[place.dataset.of].data)) tabled(place, name, unpacked(columns));
    }, { once: true });
  }

  // Paper unfolds nothing.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open]):not(.data)")];
    for (const one of closed) one.open = true;
  });
  addEventListener("afterprint", () => { for (const one of closed) one.open = false; });

  // A page that loads itself again while its run goes on comes back as it was left.
  const kept = `tensorix ${location.pathname}`;
  const reloading = document.querySelector("meta[http-equiv=refresh]") !== null;
  const recall = () => {
    try {
      const left = JSON.parse(sessionStorage.getItem(kept) ?? "null");
      sessionStorage.removeItem(kept);
      for (const id of left?.open ?? []) document.getElementById(id)?.setAttribute("open", "");
      return left;
    } catch { return null; }
  };
  const left = recall();
  if (left?.range) range = left.range;
  if (reloading) {
    addEventListener("pagehide", () => {
      const open = [...document.querySelectorAll("details[open][id]")].map((one) => one.id);
      try { sessionStorage.setItem(kept, JSON.stringify({ open, range, y: scrollY })); } catch { /* not allowed here */ }
    });
  }

  button?.addEventListener("click", () => show(null));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  for (const [id, { spec }] of Object.entries(drawings)) {
    if (wholeOf(spec)) zoomable(id, document.getElementById(`picture-${id}`));
  }
  drawAll().then(() => {
    if (range && button) button.disabled = false;
    if (left) scrollTo(0, left.y);
  });
})();
