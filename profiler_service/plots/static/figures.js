/* Draws figures of lhp in a page: colours from the page's custom properties, light and dark,
   points by the keyboard, a pinned box by a tap. plotly's script comes before this one. */
(function () {
  "use strict";

  const CONFIG = {
    displaylogo: false,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    responsive: true,
    showSendToCloud: false,
    typesetMath: false,
  };
  const PHONE_PX = 560;
  const PHONE_RIGHT_PX = 124;
  const LEGEND_ROW_PX = 20;
  const AXIS_PX = 52; // labels and name of the axis that runs to the right
  const BAR_PX = 64; // the bar that explains colours, where it is below
  const NOTHING = "[null,null]"; // what is emphasized, as JSON
  const drawn = new Set();

  function colorOf(role, styles) {
    const [name, opacity] = role.slice("role:".length).split("/");
    const color = styles.getPropertyValue("--" + name).trim();
    if (opacity === undefined) return color;
    const part = (place) => parseInt(color.slice(place, place + 2), 16);
    return `rgba(${part(1)},${part(3)},${part(5)},${opacity})`;
  }

  /* A copy with colours in place of roles. Only values of colours are looked at. */
  function resolve(value, styles, isColor) {
    if (Array.isArray(value)) return value.map((each) => resolve(each, styles, isColor));
    if (value !== null && typeof value === "object") {
      const copy = {};
      for (const [key, each] of Object.entries(value)) {
        copy[key] = resolve(each, styles, key.endsWith("color") || key === "colorscale");
      }
      return copy;
    }
    const isRole = isColor && typeof value === "string" && value.startsWith("role:");
    return isRole ? colorOf(value, styles) : value;
  }

  function isNarrow(element) {
    return element.clientWidth > 0 && element.clientWidth < PHONE_PX;
  }

  /* The bar that explains colours, below the axis. */
  function lieDown(colorbar, plotHeight) {
    const below = { y: -AXIS_PX / plotHeight, yref: "paper", yanchor: "top" };
    const across = { x: 0, xref: "paper", xanchor: "left", len: 1, lenmode: "fraction" };
    const text = colorbar.title.text.replaceAll("<br>", " ");
    const title = { ...colorbar.title, text, side: "top" };
    return { ...colorbar, ...below, ...across, orientation: "h", title };
  }

  /* The trace as a phone shows it: there is one legend. */
  function narrowed(trace, plotHeight) {
    const copy = { ...trace, legend: "legend" };
    if (trace.colorbar) copy.colorbar = lieDown(trace.colorbar, plotHeight);
    return copy;
  }

  /* The layout for the element: with or without a title; on a phone, legends are below. */
  function lay(element, figure, options) {
    const layout = { ...figure.layout, margin: { ...figure.layout.margin } };
    const { margin, meta } = layout;
    const plotHeight = layout.height - margin.t - margin.b;
    if (options.title === false) {
      delete layout.title;
      margin.t -= meta.title_height;
    }
    if (isNarrow(element)) {
      margin.r = Math.min(margin.r, PHONE_RIGHT_PX);
      if (figure.data.some((trace) => trace.colorbar)) {
        margin.r = 16;
        margin.b += BAR_PX;
      }
      if (layout.showlegend) {
        const isListed = (trace) => trace.showlegend !== false && trace.name;
        const y = -margin.b / plotHeight;
        layout.legend = { ...layout.legend, y, yanchor: "top" };
        margin.t -= meta.legend_height;
        margin.b += LEGEND_ROW_PX * figure.data.filter(isListed).length;
      }
    }
    layout.height = plotHeight + margin.t + margin.b;
    if (window.matchMedia("(pointer: coarse)").matches) layout.dragmode = false;
    return layout;
  }

  function keepZoom(element, layout) {
    for (const [name, axis] of Object.entries(layout)) {
      const shown = /^[xy]axis/.test(name) && element._fullLayout && element._fullLayout[name];
      if (shown && shown.range) axis.range = [...shown.range];
    }
  }

  function draw(state) {
    const styles = getComputedStyle(document.documentElement);
    const narrow = isNarrow(state.element);
    const laid = lay(state.element, state.figure, state.options);
    const plotHeight = laid.height - laid.margin.t - laid.margin.b;
    const traces = state.figure.data;
    const { data, layout } = resolve(
      { data: narrow ? traces.map((trace) => narrowed(trace, plotHeight)) : traces, layout: laid },
      styles,
      false,
    );
    state.notes = layout.annotations || [];
    state.shapes = layout.shapes || [];
    state.emphasis = NOTHING;
    if (state.keepsZoom) keepZoom(state.element, layout);
    const displayModeBar = narrow ? false : "hover";
    // Not `react`: after it, plotly opens no box at a point once shapes have changed.
    state.drawing = Plotly.newPlot(state.element, data, layout, { ...CONFIG, displayModeBar }).then(
      () => follow(state),
    );
    return state.drawing;
  }

  /* The points that the arrow keys step through, from left to right, then upwards. */
  function steps(element) {
    const points = [];
    for (const trace of element._fullData) {
      if (!trace.meta || !trace.meta.step || trace.visible !== true) continue;
      const subplot = trace.xaxis + trace.yaxis;
      const of = (values, ...place) => place.reduce((value, n) => (value ? value[n] : value), values);
      if (trace.type === "heatmap") {
        for (let row = 0; row < trace.y.length; row++) {
          for (let column = 0; column < trace.x.length; column++) {
            if (!Number.isFinite(trace.z[row][column])) continue;
            const text = of(trace.hovertext, row, column);
            const customdata = of(trace.customdata, row, column);
            points.push({ x: trace.x[column], y: trace.y[row], subplot, text, customdata });
          }
        }
      } else {
        for (let n = 0; n < trace.x.length; n++) {
          if (trace.y[n] === null || Number.isNaN(trace.y[n])) continue;
          const point = { x: trace.x[n], y: trace.y[n], subplot, text: of(trace.hovertext, n) };
          // By its number, because marks may overlap. WebGL traces know only places.
          if (trace.type === "scatter") point.number = { curveNumber: trace.index, pointNumber: n };
          points.push(point);
        }
      }
    }
    return points.sort((a, b) => (a.x > b.x) - (a.x < b.x) || a.y - b.y);
  }

  async function show(state, point) {
    state.at = point;
    await emphasize(state, point); // may draw the figure again, which closes a box
    if (state.at !== point) return;
    const place = point.number ? [point.number] : { xval: point.x, yval: point.y };
    Plotly.Fx.hover(state.element, place, point.subplot);
    // plotly sends no event for a box that wasn't opened by the pointer.
    tell(state, point, state.pinned === point);
  }

  function hide(state) {
    state.at = state.pinned = null;
    Plotly.Fx.unhover(state.element, undefined, "xy");
    tell(state, null, false);
  }

  function nextPoint(state, key) {
    const points = steps(state.element);
    if (!points.length) return null;
    if (key === "Home" || (!state.at && key === "ArrowRight")) return points[0];
    if (key === "End" || !state.at) return points[points.length - 1];
    const here = points.findIndex((p) => p.x === state.at.x && p.y === state.at.y);
    if (key === "ArrowUp" || key === "ArrowDown") {
      const column = points.filter((p) => p.x === state.at.x);
      const row = column.findIndex((p) => p.y === state.at.y) + (key === "ArrowUp" ? 1 : -1);
      return column[row] || state.at;
    }
    const heat = state.element._fullData.some((t) => t.type === "heatmap" && t.meta && t.meta.step);
    if (heat) {
      const row = points.filter((p) => p.y === state.at.y);
      const column = row.findIndex((p) => p.x === state.at.x) + (key === "ArrowRight" ? 1 : -1);
      return row[column] || state.at;
    }
    return points[here + (key === "ArrowRight" ? 1 : -1)] || state.at;
  }

  function onKey(state, event) {
    const keys = ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"];
    if (event.key === "Escape") {
      hide(state);
      state.keepsZoom = false;
      draw(state);
    } else if (keys.includes(event.key)) {
      const point = nextPoint(state, event.key);
      if (!point) return;
      state.pinned = point; // the pointer, which may lie anywhere, doesn't close it
      show(state, point);
    } else {
      return;
    }
    event.preventDefault();
  }

  /* An arrow from above to the point: on a phone, its box isn't beside it. */
  function pointAt(state, point) {
    const [, xref, yref] = /^(x\d*)(y\d*)$/.exec(point.subplot);
    const place = (ref, value) => {
      const axis = state.element._fullLayout[ref.replace(/^[xy]/, "$&axis")];
      return axis.type === "log" ? Math.log10(value) : value;
    };
    const pin = { x: place(xref, point.x), y: place(yref, point.y), xref, yref, text: "" };
    const arrow = { showarrow: true, arrowhead: 2, arrowwidth: 1.5, standoff: 6, ax: 0, ay: -32 };
    const arrowcolor = colorOf("role:ink", getComputedStyle(document.documentElement));
    return { ...pin, ...arrow, arrowcolor };
  }

  /* Shades the bin under the pointer, or draws the arrow to the point that dominates it. */
  function emphasize(state, point) {
    const meta = state.figure.layout.meta || {};
    const styles = getComputedStyle(document.documentElement);
    const shapes = [...state.shapes];
    const annotations = [...state.notes];
    let added = null;
    const right = meta.bins ? meta.bins.findIndex((edge) => edge >= point.x) : 0;
    if (right > 0) {
      const [x0, x1] = [meta.bins[right - 1], meta.bins[right]];
      added = { type: "rect", layer: "below", x0, x1, y0: 0, y1: 1, line: { width: 0 } };
      Object.assign(added, { xref: "x", yref: "y domain" });
      added.fillcolor = colorOf("role:lhp-soft", styles);
      shapes.push(added);
    } else if (meta.arrows && point.customdata && point.customdata[0] > 0) {
      const [x, y] = point.customdata;
      added = { x, y, ax: point.x, ay: point.y, axref: "x", ayref: "y", text: "" };
      Object.assign(added, { showarrow: true, arrowhead: 2, arrowwidth: 1.5 });
      added.arrowcolor = colorOf("role:ink", styles);
      annotations.push(added);
    }
    const pin = state.pinned === point && isNarrow(state.element) ? pointAt(state, point) : null;
    if (pin) annotations.push(pin);
    const key = JSON.stringify([added, pin]);
    if (key === state.emphasis) return undefined;
    state.emphasis = key;
    return Plotly.relayout(state.element, { shapes, annotations });
  }

  function relax(state) {
    if (state.emphasis === NOTHING) return;
    state.emphasis = NOTHING;
    Plotly.relayout(state.element, { shapes: state.shapes, annotations: state.notes });
  }

  /* Sends the point to the page; none if its box was closed. */
  function tell(state, point, isPinned) {
    let text = "";
    if (point) {
      const isCell = state.figure.data.some((trace) => trace.type === "heatmap");
      text = point.hovertext || point.text || (isCell ? `${point.y} × ${point.x}` : `${point.x}`);
    }
    const detail = { x: point?.x, y: point?.y, text, pinned: isPinned };
    state.element.dispatchEvent(new CustomEvent("lhp-point", { detail, bubbles: true }));
  }

  /* Listens to plotly's events, which a new plot forgets. */
  function follow(state) {
    const { element } = state;
    element.on("plotly_hover", (event) => {
      const point = event.points[0];
      emphasize(state, point);
      tell(state, point, false);
    });
    element.on("plotly_unhover", () => {
      if (state.pinned) setTimeout(() => state.pinned && show(state, state.pinned), 0);
      else relax(state);
    });
    element.on("plotly_click", (event) => {
      const point = event.points[0];
      const subplot = point.fullData.xaxis + point.fullData.yaxis;
      const { x, y, hovertext: text, customdata } = point;
      state.pinned = state.at = { x, y, subplot, text, customdata };
      emphasize(state, state.pinned);
      tell(state, point, true);
    });
  }

  function listen(state) {
    const { element } = state;
    element.addEventListener("keydown", (event) => onKey(state, event));
    element.addEventListener("lhp-close", () => {
      hide(state);
      relax(state);
    });
    new ResizeObserver(() => {
      if (element.clientWidth !== state.width) {
        state.width = element.clientWidth;
        Plotly.Plots.resize(element);
      }
    }).observe(element);
  }

  /* Draws the figure in the element; `title: false` leaves its title out. Returns a promise. */
  window.lhpDraw = async function (element, figure, options) {
    const known = element.lhpState;
    const state = known || { element, width: element.clientWidth };
    state.figure = figure;
    state.options = options || {};
    state.keepsZoom = false;
    await draw(state);
    if (!known) {
      element.lhpState = state;
      drawn.add(state);
      listen(state);
    }
    return element;
  };

  /* A promise that every figure has been drawn in the theme of now. */
  window.lhpSettled = () => Promise.all([...drawn].map((state) => state.drawing)).then(() => true);

  function redraw() {
    for (const state of drawn) {
      state.keepsZoom = true; // of a figure that was drawn before
      if (state.element.isConnected) draw(state);
      else drawn.delete(state);
    }
  }

  const root = { attributes: true, attributeFilter: ["data-theme"] };
  new MutationObserver(redraw).observe(document.documentElement, root);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
})();
