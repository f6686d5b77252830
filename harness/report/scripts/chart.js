// A chart of many lines that each have their own points. uPlot draws axes and keeps cursor and zoom; the lines are ours,
// for it wants one column of x for all.
bilevelbench.chart = (place) => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const NEAR = 24; // pixels from the cursor to a point
  let plot, spec, drawn = [];

  const shade = bilevelbench.shade = (colour) => !dark.matches ? colour
    : `#${[1, 3, 5].map((k) => Math.round(parseInt(colour.slice(k, k + 2), 16) * 0.62 + 97).toString(16).padStart(2, "0")).join("")}`;

  // From a value to a pixel of the canvas along an axis.
  function along(u, axis, log) {
    const { min, max } = u.scales[axis], a = u.valToPos(min, axis, true), b = u.valToPos(max, axis, true);
    const [low, high] = log ? [Math.log10(min), Math.log10(max)] : [min, max];
    return (value) => a + ((log ? Math.log10(value) : value) - low) / (high - low) * (b - a);
  }

  function path(ctx, xs, ys) {
    let pen = false;
    ctx.beginPath();
    for (let k = 0; k < xs.length; k++) {
      if (Number.isFinite(xs[k]) && Number.isFinite(ys[k])) pen ? ctx.lineTo(xs[k], ys[k]) : ctx.moveTo(xs[k], ys[k]);
      pen = Number.isFinite(xs[k]) && Number.isFinite(ys[k]);
    }
  }

  function draw(u) {
    const { ctx } = u, ratio = devicePixelRatio, box = u.bbox;
    const X = along(u, "x", spec.logx), Y = along(u, "y", spec.logy);
    const across = (x) => x.map((v) => (v === null || (spec.logx && v <= 0) ? NaN : X(v)));
    const up = (y) => y.map((v) => (v === null ? NaN : Y(spec.logy ? Math.max(v, spec.floor) : v)));
    ctx.save();
    ctx.beginPath();
    ctx.rect(box.left, box.top, box.width, box.height);
    ctx.clip();
    ctx.lineJoin = "round";
    drawn = spec.lines.map((line) => {
      const xs = across(line.x), ys = up(line.y);
      ctx.strokeStyle = ctx.fillStyle = shade(line.colour);
      if (line.low) {
        const low = up(line.low), high = up(line.high);
        const kept = xs.map((_, k) => k).filter((k) => [xs, low, high].every((values) => Number.isFinite(values[k])));
        const back = kept.toReversed();
        path(ctx, [...kept, ...back].map((k) => xs[k]), [...kept.map((k) => low[k]), ...back.map((k) => high[k])]);
        ctx.globalAlpha = 0.14;
        ctx.fill();
      }
      ctx.globalAlpha = line.alpha;
      ctx.lineWidth = line.width * ratio;
      ctx.setLineDash(line.dash.map((part) => part * line.width * ratio));
      path(ctx, xs, ys);
      ctx.stroke();
      const last = xs.length - 1;
      if (line.cross && last >= 0) cross(ctx, xs[last], ys[last], 4 * ratio);
      return { line, xs, ys };
    });
    ctx.globalAlpha = 1;
    ctx.fillStyle = ctx.strokeStyle = style("--soft");
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    for (const [name, value] of Object.entries(spec.marks)) {
      if (spec.logy && value <= 0) continue;
      ctx.lineWidth = ratio;
      ctx.setLineDash([4 * ratio, 3 * ratio]);
      path(ctx, [box.left, box.left + box.width], [Y(value), Y(value)]);
      ctx.stroke();
      ctx.fillText(name, box.left + 6 * ratio, Y(value) - 3 * ratio);
    }
    ctx.restore();
  }

  function cross(ctx, x, y, size) {
    ctx.setLineDash([]);
    path(ctx, [x - size, x + size, NaN, x - size, x + size], [y - size, y + size, NaN, y + size, y - size]);
    ctx.stroke();
  }

  // Whether a number on a logarithmic axis is labelled: powers of ten, and within two of them 2 and 5 as well.
  function round(value, splits) {
    const lead = Number(value.toExponential(6).split("e")[0]), shown = splits.filter((v) => v !== null);
    return lead === 1 || ((lead === 2 || lead === 5) && shown.at(-1) / shown[0] < 150);
  }

  function nearest(u) {
    const x = u.cursor.left * devicePixelRatio + u.bbox.left, y = u.cursor.top * devicePixelRatio + u.bbox.top;
    let best = null, least = (NEAR * devicePixelRatio) ** 2;
    for (const { line, xs, ys } of u.cursor.left < 0 ? [] : drawn) {
      for (let k = 0; k < xs.length; k++) {
        const far = (xs[k] - x) ** 2 + (ys[k] - y) ** 2 + (line.quiet ? least / 2 : 0);
        if (far < least) [best, least] = [{ line, k }, far];
      }
    }
    return best;
  }

  function make() {
    plot?.destroy();
    const axis = (label, size, log) => ({
      label, size, labelSize: 18, stroke: style("--soft"), font: "11px system-ui, sans-serif", labelFont: "12px system-ui, sans-serif",
      grid: { stroke: style("--faint"), width: 1 }, ticks: { stroke: style("--rule"), width: 1, size: 4 },
      values: (u, splits) => splits.map((v) => (v === null || (log && !round(v, splits)) ? "" : bilevelbench.short(v, 3))),
    });
    const range = (name) => () => spec.zoom?.[name] ?? spec.range[name];
    plot = new uPlot({
      width: place.clientWidth, height: place.clientHeight || 400, legend: { show: false },
      scales: { x: { time: false, distr: spec.logx ? 3 : 1, range: range("x") }, y: { distr: spec.logy ? 3 : 1, range: range("y") } },
      axes: [axis(spec.xlabel, 38, spec.logx), axis(spec.ylabel, 58, spec.logy)],
      series: [{}, { paths: () => null, points: { show: false } }],
      cursor: { drag: { x: true, y: true, setScale: false }, points: { show: false } },
      hooks: {
        draw: [draw],
        setCursor: [(u) => {
          const found = nearest(u), at = u.over.getBoundingClientRect();
          bilevelbench.tip(found ? spec.words(found.line, found.k) : "", at.left + u.cursor.left, at.top + u.cursor.top);
          u.over.style.cursor = found?.line.run ? "pointer" : "crosshair";
        }],
        setSelect: [(u) => {
          const { left, top, width, height } = u.select;
          if (width < 8 || height < 8) return;
          const value = (pixel, name) => u.posToVal(pixel, name);
          u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          spec.zoomed({ x: [value(left, "x"), value(left + width, "x")], y: [value(top + height, "y"), value(top, "y")] });
        }],
      },
    }, [spec.range.x, spec.range.y], place);
    plot.over.addEventListener("click", () => { const found = nearest(plot); if (found?.line.run) spec.picked(found.line.run); });
    plot.over.addEventListener("dblclick", () => spec.zoomed(null));
    plot.over.addEventListener("mouseleave", () => bilevelbench.tip(""));
  }

  new ResizeObserver(() => plot && plot.setSize({ width: place.clientWidth, height: place.clientHeight })).observe(place);
  dark.addEventListener("change", () => plot && make());

  // Draw what is asked for. Only another axis makes the plot anew.
  return (asked) => {
    const alike = spec && ["logx", "logy", "xlabel", "ylabel"].every((name) => spec[name] === asked[name]);
    spec = asked;
    if (!plot || !alike) return make();
    plot.setData([spec.range.x, spec.range.y]);
  };
};
