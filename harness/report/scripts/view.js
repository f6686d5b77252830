// What the page shows stands in its address, `#place?name=value`, so that a link shows a colleague the same.
"use strict";
document.documentElement.classList.add("js");

const bilevelbench = (() => {
  const params = new URLSearchParams(), listeners = [], parsed = {}, waiting = {}, given = {};

  function read() {
    const [place, query] = location.hash.slice(1).split(/\?(.*)/s);
    if (query === undefined && params.size) { // a link within the page keeps what is shown
      history.replaceState(null, "", `#${place}?${params}`);
      return place;
    }
    for (const name of [...params.keys()]) params.delete(name);
    for (const [name, value] of new URLSearchParams(query)) params.append(name, value);
    return place;
  }

  function show(place) {
    for (const listener of listeners) listener();
    if (place) document.getElementById(decodeURIComponent(place))?.scrollIntoView();
  }

  // Change what is shown: a text, a list, or null for what is left out.
  function set(changes, place) {
    for (const [name, value] of Object.entries(changes)) {
      params.delete(name);
      for (const one of value === null || value === "" ? [] : [value].flat()) params.append(name, one);
    }
    const at = place ?? location.hash.slice(1).split("?")[0];
    history.replaceState(null, "", `#${at}${params.size ? `?${params}` : ""}`);
    show(place);
  }

  // A blob of data by its name: it is in the page, or a script beside it hands it over.
  function load(name) {
    const own = document.getElementById(`${name}-data`);
    if (own) return Promise.resolve(parsed[name] ??= JSON.parse(own.textContent));
    return waiting[name] ??= new Promise((resolve, reject) => {
      const script = element("script", { src: `data/${name}.js` });
      given[name] = resolve;
      script.onerror = () => reject(new Error(`data/${name}.js is not beside this page`));
      document.head.append(script);
    });
  }

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (typeof value === "function") made.addEventListener(name, value);
      else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children);
    return made;
  }

  function choices(select, values, chosen) {
    select.replaceChildren(...values.map(([value, text]) => element("option", { value }, text)));
    select.value = values.some(([value]) => value === chosen) ? chosen : values[0]?.[0] ?? "";
  }

  function short(value, digits = 4) {
    if (value == null) return "—";
    const size = Math.abs(value);
    if (size !== 0 && (size >= 1e6 || size < 1e-3)) return value.toExponential(Math.max(0, digits - 2)).replace("e+", "e");
    return String(Number(value.toPrecision(digits)));
  }

  addEventListener("hashchange", () => show(read()));
  return {
    params, set, load, element, choices, short,
    get: (name) => params.get(name),
    all: (name) => params.getAll(name),
    take: (name, value) => given[name]?.(value),
    listen: (listener) => listeners.push(listener),
    start: () => show(read()),
  };
})();

// A word's meaning where nothing can rest on it: a finger's tap shows it.
(() => {
  const tip = bilevelbench.element("div", { class: "tip", hidden: true });
  document.body.append(tip);
  bilevelbench.tip = (text, x, y) => {
    tip.hidden = !text;
    tip.textContent = text;
    if (!text) return;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - width - 4))}px`;
    tip.style.top = `${y + 18 + height > innerHeight ? Math.max(4, y - height - 12) : y + 18}px`;
  };
  document.addEventListener("click", (event) => {
    const word = event.target.closest?.("abbr[title]");
    bilevelbench.tip(word && matchMedia("(hover: none)").matches ? word.title : "", event.clientX, event.clientY);
  });
})();
