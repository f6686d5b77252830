// The explorer: one problem, a metric against any axis, medians or every run, solvers switched on and off.
(() => {
  const { facts, element, set, get, all, listen, load, choices, short } = bilevelbench;
  const section = document.getElementById("explore");
  if (!section || !facts.problems.some((p) => p.metrics.length)) return section?.remove();
  const form = section.querySelector("form"), legend = section.querySelector(".legend");
  const draw = bilevelbench.chart(section.querySelector(".plot"));
  const ten = facts.solvers.filter((s) => s.first).slice(0, 10).map((s) => s.name);
  let curves = null, rows = null, problem = null, asked = 0;

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", ({ target }) => {
    const value = target.type === "checkbox" ? (target.checked ? "1" : null) : target.value;
    set({ [target.name]: value, zoom: null });
  });
  form.elements.whole.addEventListener("click", () => set({ zoom: null }));
  document.querySelector("main").addEventListener("click", (event) => {
    const link = event.target.closest("a[data-explore]");
    if (!link) return;
    event.preventDefault();
    set({ p: link.dataset.explore, zoom: null }, "explore");
  });

  const chosen = () => new Set(get("s") === "-" ? [] : all("s").length ? all("s") : ten);
  const choose = (names) => set({ s: names.length ? names : "-" });
  const on = (name) => chosen().has(name);
  const sketch = (s, coloured) => {
    const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), line = document.createElementNS(ns, "line");
    svg.setAttribute("aria-hidden", "true");
    const parts = { x1: 0, x2: 26, y1: 4, y2: 4, "stroke-width": 2.4, stroke: coloured ? bilevelbench.shade(s.colour) : "#b4b4b4", "stroke-dasharray": s.dash.map((d) => 2 * d).join(" ") };
    for (const [name, value] of Object.entries(parts)) line.setAttribute(name, value);
    svg.append(line);
    return svg;
  };

  // The legend is made once for a problem; then only its buttons are pressed.
  let buttons = new Map(), made = "";
  function legendFor(present) {
    const names = present.map((s) => s.name), mark = names.join("\n");
    if (mark !== made) {
      made = mark;
      const group = (text, members) => element("button", { type: "button", class: "all", click: () => {
        const now = chosen(), full = members().every((name) => now.has(name));
        for (const name of members()) full ? now.delete(name) : now.add(name);
        choose([...now]);
      } }, text);
      const by = present.every((s) => s.class === "other") ? "order" : "class";
      const classes = [...new Set(present.map((s) => s[by]))];
      const of = (c) => present.filter((s) => s[by] === c).map((s) => s.name);
      const line = element("div", {},
        element("button", { type: "button", class: "all", click: () => set({ s: null }) }, "first ten"),
        element("button", { type: "button", class: "all", click: () => choose(names) }, "all"),
        element("button", { type: "button", class: "all", click: () => choose([]) }, "none"),
        ...classes.filter((c) => of(c).length < names.length).map((c) => group(c, () => of(c))));
      buttons = new Map(present.map((s) => [s.name, element("button", { type: "button", title: s.name, click: () => {
        const now = chosen();
        now.delete(s.name) || now.add(s.name);
        choose([...now]);
      } }, sketch(s, on(s.name)), s.short)]));
      legend.replaceChildren(line, ...buttons.values());
    }
    for (const s of present) {
      const button = buttons.get(s.name), pressed = String(on(s.name));
      if (button.getAttribute("aria-pressed") === pressed) continue;
      button.setAttribute("aria-pressed", pressed);
      button.firstChild.replaceWith(sketch(s, on(s.name)));
    }
  }

  function lines(x, y) {
    const shown = bilevelbench.shown.solvers, made = [], seeds = get("v") === "seeds" && rows;
    const look = (s) => on(s.name) ? { colour: s.colour, dash: s.dash } : { colour: "#b4b4b4", dash: [], quiet: true };
    for (const curve of curves.curves) {
      const s = facts.solvers[curve.s], grey = !on(s.name);
      if (!shown.has(s.name)) continue;
      for (const run of seeds ? runsOf(curve.s) : []) {
        made.push({ ...look(s), width: grey ? 0.6 : 1, alpha: grey ? 0.35 : 0.55, x: run.x[x], y: run.y[y], solver: s, run: run.id, seed: run.about.seed, cross: !["done", "unsupported"].includes(run.about.status) });
      }
      const [middle, low, high] = curve.y[y];
      made.push({ ...look(s), width: grey ? 1 : 2, alpha: grey ? 0.5 : 1, x: curve.x[x], y: middle, low: grey || seeds ? null : low, high, solver: s, n: curve.n });
    }
    return made.sort((a, b) => !a.quiet - !b.quiet);
  }

  let own = new Map();
  const runsOf = (place) => own.get(facts.solvers[place].name) ?? [];
  function sortRuns(index) {
    own = new Map();
    index.run.forEach((id, k) => {
      if (!rows.runs[id]) return;
      const name = facts.solvers[index.solver[k]].name;
      if (!own.has(name)) own.set(name, []);
      own.get(name).push({ id, ...rows.runs[id] });
    });
  }

  // Loops and not spread arguments: a problem can have a million values.
  function extent(values, log) {
    let low = Infinity, high = -Infinity;
    for (const list of values) for (const v of list) if (v !== null && (!log || v > 0)) [low, high] = [Math.min(low, v), Math.max(high, v)];
    if (low > high) return log ? [1, 10] : [0, 1];
    if (log) return low === high ? [low / 2, high * 2] : [low / 1.1, high * 1.1];
    const pad = (high - low || Math.abs(high) || 1) * 0.03;
    return [low - pad, high + pad];
  }

  function render() {
    const metrics = curves.metrics, y = Math.max(0, metrics.indexOf(form.elements.y.value)), x = Number(form.elements.x.value);
    const metric = metrics[y], all = lines(x, y);
    const positive = curves.curves.some((c) => c.y[y][0].some((v) => v > 0));
    const logy = positive && !get("linear") && !problem.linear.includes(metric), logx = !get("linearx");
    const yr = extent(all.flatMap((l) => [l.y, l.low ?? [], l.low ? l.high : []]), logy);
    if (logy) yr[0] = Math.max(yr[0], 1e-16);
    const zoom = (get("zoom") ?? "").split(",").map(Number);
    const marks = Object.fromEntries(Object.entries(problem.lines).filter(([, v]) => metric in v).map(([name, v]) => [name, v[metric]]));
    legendFor(curves.curves.map((c) => facts.solvers[c.s]).filter((s) => bilevelbench.shown.solvers.has(s.name)).sort((a, b) => b.first - a.first));
    draw({
      lines: all, logx, logy, floor: yr[0], marks, xlabel: facts.axes[x], ylabel: `${metric}${problem.arrows[metric] ?? ""}`,
      range: { x: extent(all.map((l) => l.x), logx), y: yr },
      zoom: zoom.length === 4 && zoom.every(Number.isFinite) ? { x: zoom.slice(0, 2), y: zoom.slice(2) } : null,
      zoomed: (z) => set({ zoom: z ? [...z.x, ...z.y].map((v) => v.toPrecision(4)).join(",") : null }),
      picked: (run) => set({ run }),
      words: (line, k) => `${line.solver.name}${line.run ? `, seed ${line.seed}` : `, median of ${line.n}`}\n${metric} ${short(line.y[k])}${line.low ? ` (${short(line.low[k])} to ${short(line.high[k])})` : ""}\n${facts.axes[x]} ${short(line.x[k], 6)}`,
    });
    const hidden = all.filter((l) => logy && l.y.some((v) => v !== null && v <= 0)).length;
    section.querySelector(".said").textContent = `${problem.name}: ${metric} against ${facts.axes[x]}, ${new Set(all.map((l) => l.solver.name)).size} solvers, ${chosen().size} coloured.${hidden ? ` ${hidden} lines have values at or below zero, drawn at the lower edge.` : ""}`;
    const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    const some = [...chosen()].filter((name) => curves.curves.some((c) => facts.solvers[c.s].name === name));
    section.querySelector(".command").textContent = `bilevelbench figure RESULTS --kind convergence -p ${quote(problem.name)} --y ${metric} --x ${["calls", "passes", "grads", "rows", "steps", "seconds"][x]}${some.map((name) => ` -s ${quote(name)}`).join("")} --for neurips -o figure.pdf`;
  }

  listen(async () => {
    const turn = ++asked, shown = facts.problems.filter((p) => p.metrics.length && bilevelbench.shown.problems.has(p.name));
    if (!shown.length) return;
    choices(form.elements.p, shown.map((p) => [p.name, p.name]), get("p"));
    problem = facts.problems.find((p) => p.name === form.elements.p.value);
    choices(form.elements.y, problem.metrics.map((m) => [m, `${m}${problem.arrows[m]}`]), get("y"));
    choices(form.elements.x, facts.axes.map((name, k) => [String(k), name]), get("x"));
    form.elements.v.value = get("v") === "seeds" ? "seeds" : "median";
    form.elements.linear.checked = Boolean(get("linear"));
    form.elements.linearx.checked = Boolean(get("linearx"));
    try {
      const mine = await load(`curves-${problem.slug}`);
      const runs = get("v") === "seeds" && facts.rows ? await Promise.all([load(`rows-${problem.slug}`), load("runs")]) : null;
      if (turn !== asked) return; // something else was asked for meanwhile
      curves = mine;
      if (runs && runs[0] !== rows) [rows, own] = [runs[0], new Map()];
      if (runs && !own.size) sortRuns(runs[1]);
      if (!runs) rows = null;
      render();
    } catch (error) {
      section.querySelector(".said").textContent = error.message;
    }
  });
})();
