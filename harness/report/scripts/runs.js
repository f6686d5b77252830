// Every run in a table that is filtered from all over the page, and each opens to what it was and did.
(() => {
  const { facts, element, set, get, listen, load, choices, short } = bilevelbench;
  const place = document.getElementById("all-runs"), dialog = document.getElementById("run");
  const AT_ONCE = 100, COLUMNS = ["problem", "solver", "seed", "status", "steps", "calls", "seconds", "reason"];
  if (!dialog || !facts.rows) return bilevelbench.start();

  const field = (name, label) => element("select", { name, "aria-label": label, change: (e) => set({ [name]: e.target.value }) });
  const [solver, problem, status] = [field("rs", "solver"), field("rp", "problem"), field("rt", "status")];
  const said = element("span", { "aria-live": "polite" });
  const body = element("tbody"), more = element("button", { type: "button", click: () => fill(true) }, "more");
  const heads = COLUMNS.map((name) => element("th", { class: ["seed", "steps", "calls", "seconds"].includes(name) && "n" },
    element("button", { type: "button", click: () => set({ rsort: get("rsort") === name ? `-${name}` : name }) }, name)));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
  place.append(
    element("form", { class: "controls", submit: (e) => e.preventDefault() }, solver, problem, status, said),
    element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "runs" }, table), more,
  );
  let index = null, found = [], count = 0, before = null;
  const named = (values) => [["", "all"], ...values.map((v) => [v, v])];

  function value(name, k) {
    return name === "problem" ? facts.problems[index.problem[k]].name : name === "solver" ? facts.solvers[index.solver[k]].name : index[name][k];
  }

  function fill(further = false) {
    const until = further ? count + AT_ONCE : AT_ONCE;
    const rows = found.slice(further ? count : 0, until).map((k) => element("tr", { tabindex: 0, "data-of": index.run[k] },
      ...COLUMNS.map((name, c) => element("td", { class: heads[c].className, title: index.run[k] }, name === "seed" ? String(value(name, k)) : typeof value(name, k) === "number" ? short(value(name, k), 6) : value(name, k) ?? "—"))));
    further ? body.append(...rows) : body.replaceChildren(...rows);
    count = Math.min(until, found.length);
    more.hidden = count >= found.length;
    said.textContent = `${found.length} of ${index.run.length} runs${count < found.length ? `, the first ${count}` : ""}`;
  }

  const open = (event) => {
    const row = event.target.closest("tr[data-of]");
    if (row && (event.type === "click" || event.key === "Enter")) set({ run: row.dataset.of });
  };
  body.addEventListener("click", open);
  body.addEventListener("keydown", open);

  function list() {
    const { solvers, problems } = bilevelbench.shown, [s, p, t] = [get("rs"), get("rp"), get("rt")];
    const bad = (k) => !["done", "unsupported"].includes(index.status[k]);
    found = index.run.map((_, k) => k).filter((k) => {
      const [mine, its] = [value("solver", k), value("problem", k)];
      return solvers.has(mine) && problems.has(its) && (!s || mine === s) && (!p || its === p) && (!t || index.status[k] === t || (t === "failed" && bad(k)));
    });
    const name = (get("rsort") ?? "").replace(/^-/, ""), way = get("rsort")?.startsWith("-") ? -1 : 1;
    heads.forEach((head, c) => COLUMNS[c] === name ? head.setAttribute("aria-sort", way > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort"));
    if (COLUMNS.includes(name)) found.sort((a, b) => {
      const [one, two] = [value(name, a), value(name, b)];
      return one === two ? 0 : one === null ? 1 : two === null ? -1 : one < two ? -way : way;
    });
    fill();
  }

  // The table is made when it comes into sight: a page of many runs need not wait for it.
  let near = false;
  new IntersectionObserver((seen) => { if (seen.some((s) => s.isIntersecting) && !near) { near = true; refresh(); } }, { rootMargin: "600px" }).observe(place);
  async function refresh() {
    if (!near) return;
    const now = JSON.stringify([...["rs", "rp", "rt", "rsort"].map(get), [...bilevelbench.shown.solvers], [...bilevelbench.shown.problems]]);
    if (now === before) return;
    before = now;
    try {
      index ??= await load("runs");
    } catch (error) {
      said.textContent = error.message;
      return;
    }
    choices(solver, named(facts.solvers.map((one) => one.name)), get("rs") ?? "");
    choices(problem, named(facts.problems.map((one) => one.name)), get("rp") ?? "");
    choices(status, named(["failed", ...new Set(index.status)].sort()), get("rt") ?? "");
    list();
  }
  listen(refresh);

  // -- one run

  dialog.addEventListener("close", () => get("run") && set({ run: null }));
  const row = (name, value) => element("tr", {}, element("th", {}, name), element("td", {}, name === "traceback" ? element("pre", {}, value) : String(value)));

  function shown(id, its, blob) {
    const run = blob.runs[id], columns = [...facts.axes, ...blob.metrics], values = [...run.x, ...run.y];
    const kept = columns.map((_, c) => c).filter((c) => values[c].some((v) => v !== null)); // every run has steps
    const looks = element("tbody", {}, ...(values[4] ?? []).map((_, k) => element("tr", {}, ...kept.map((c) => element("td", { class: "n" }, short(values[c][k], 6))))));
    const parts = [
      element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "about the run" }, element("table", { class: "facts" }, element("tbody", {}, ...Object.entries(run.about).map(([n, v]) => row(n, v))))),
      element("h3", {}, "its looks"),
      element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": "looks" }, element("table", {}, element("thead", {}, element("tr", {}, ...kept.map((c) => element("th", { class: "n" }, columns[c])))), looks)),
    ];
    if (run.path.length) parts.push(element("h3", {}, "its iterates"), element("pre", { tabindex: 0 }, run.path.map(([step, x, y]) => `step ${step}: x = (${[...x].join(", ")}), y = (${[...y].join(", ")})`).join("\n")));
    dialog.querySelector(".body").replaceChildren(...parts);
    dialog.querySelector("h2").textContent = `${run.about.solver} on ${its.name}, seed ${run.about.seed}`;
  }

  listen(async () => {
    const id = get("run");
    if (!id) return dialog.open && dialog.close();
    if (dialog.dataset.of === id && dialog.open) return;
    dialog.dataset.of = id;
    try {
      index ??= await load("runs");
      const k = index.run.indexOf(id);
      if (k < 0) return set({ run: null });
      const its = facts.problems[index.problem[k]];
      shown(id, its, await load(`rows-${its.slug}`));
    } catch (error) {
      dialog.querySelector("h2").textContent = error.message;
    }
    if (!dialog.open && get("run") === id) dialog.showModal();
  });

  bilevelbench.start();
})();
