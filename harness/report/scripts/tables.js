// Tables sort by their heads; one filter holds for everything on the page; a cell leads to the runs behind it.
(() => {
  const { element, set, get, listen, choices } = bilevelbench;
  const tables = [...document.querySelectorAll("table.sorts")];
  const units = { B: 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

  function key(cell, number) {
    const text = (cell?.dataset.v ?? cell?.textContent ?? "").trim();
    if (text === "" || text === "—") return null;
    if (!number) return text.toLowerCase();
    if (text.startsWith("∞")) return Infinity;
    const value = parseFloat(text.replace("−", "-"));
    return Number.isNaN(value) ? null : value * (units[text.split(" ")[1]] ?? 1);
  }

  function compare(a, b) { // what is missing comes last, whichever way
    return a === b ? 0 : a === null ? 1 : b === null ? -1 : a < b ? -1 : 1;
  }

  function sort(table, column, down) {
    const heads = [...table.tHead.rows[0].cells], number = heads[column].classList.contains("n");
    const keyed = [...table.tBodies[0].rows].map((row) => [key(row.cells[column], number), row]);
    keyed.sort(([a], [b]) => (down && a !== null && b !== null ? -compare(a, b) : compare(a, b)));
    table.tBodies[0].append(...keyed.map(([, row]) => row));
    heads.forEach((head, k) => k === column ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort"));
  }

  tables.forEach((table, place) => {
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const click = () => set({ sort: `${place}.${column}.${head.getAttribute("aria-sort") === "ascending" ? "down" : "up"}` });
      head.replaceChildren(element("button", { type: "button", click }, ...head.childNodes));
    });
  });

  let sorted = "";
  listen(() => {
    const asked = get("sort") ?? "";
    if (asked === sorted) return;
    sorted = asked;
    const [place, column, way] = asked.split(".");
    if (tables[place]?.tHead.rows[0].cells[column]) sort(tables[place], Number(column), way === "down");
  });

  // -- the filter

  const data = document.getElementById("facts-data");
  if (!data) return;
  const facts = (bilevelbench.facts = JSON.parse(data.textContent));
  const form = document.getElementById("filter");
  const fields = [
    ["class", "class", "solvers"], ["order", "order", "solvers"], ["batches", "data", "solvers"],
    ["family", "family", "problems"], ["constraint", "constraint", "problems"],
  ];
  const search = element("input", { type: "search", name: "solver", placeholder: "part of a name", input: change });
  form.append(element("label", {}, "solver ", search));
  for (const [name, label, of] of fields) {
    const values = [...new Set(facts[of].map((one) => one[name]))].sort();
    const select = element("select", { name, change });
    choices(select, [["", "all"], ...values.map((value) => [value, value])]);
    form.append(element("label", { hidden: values.length < 2 }, `${label} `, select));
  }
  form.append(element("button", { type: "reset", click: () => set({ solver: null, ...Object.fromEntries(fields.map(([f]) => [f, null])) }) }, "show all"));
  form.addEventListener("submit", (event) => event.preventDefault());

  function change(event) {
    set({ [event.target.name]: event.target.value });
  }

  function passes(one, of) {
    const named = of !== "solvers" || one.name.toLowerCase().includes((get("solver") ?? "").toLowerCase());
    return named && fields.every(([name, , whose]) => whose !== of || !get(name) || one[name] === get(name));
  }

  let before = "";
  listen(() => {
    for (const field of form.elements) if (field.name && field.value !== (get(field.name) ?? "")) field.value = get(field.name) ?? "";
    bilevelbench.shown = {};
    for (const of of ["solvers", "problems"]) bilevelbench.shown[of] = new Set(facts[of].filter((one) => passes(one, of)).map((one) => one.name));
    const { solvers, problems } = bilevelbench.shown, now = [...form.elements].map((field) => field.value).join("\n");
    if (now === before) return;
    before = now;
    for (const part of document.querySelectorAll("main [data-solver], main [data-problem]")) {
      const { solver, problem } = part.dataset;
      part.hidden = (solver !== undefined && !solvers.has(solver)) || (problem !== undefined && !problems.has(problem));
    }
  });

  // -- from a cell to its rows

  document.querySelector("main").addEventListener("click", (event) => {
    const link = event.target.closest("a, button, summary, pre, input, select, label");
    const row = event.target.closest("tbody tr[data-solver], tbody tr[data-problem]");
    if (!row || !facts.rows || (link && !link.classList.contains("plain"))) return;
    event.preventDefault();
    if (row.dataset.run) return set({ run: row.dataset.run });
    const cell = event.target.closest("td");
    set({
      rs: cell?.dataset.solver ?? row.dataset.solver ?? null, rp: row.closest("[data-problem]")?.dataset.problem ?? null,
      rt: cell?.dataset.status ?? null,
    }, "runs");
  });
})();
