// Draws the figures in the colours of the style sheet, and again when these change.
(() => {
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const chosen = new Map(figures.map((figure) => [figure.key, 0]));
  const hidden = new Set(); // runs, by their place
  const [MOST_BUTTONS, LONGEST_BUTTON] = [3, 24]; // more views, or longer names, are a list
  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  // Fits A4 and Letter within their margins, three to a page, in CSS pixels; a matrix stays one.
  const [ON_PAPER, SQUARE_ON_PAPER, TWO_ON_PAPER] =
    [{ width: 670, height: 225 }, { width: 440, height: 330 }, { width: 670, height: 360 }];
  const [UPPER, LOWER] = [[0.36, 1], [0, 0.27]]; // of the height, where one panel stands beneath another
  let printing = false;

  const probe = document.body.appendChild(document.createElement("span"));
  probe.hidden = true;
  // The computed value of a variable is its text; that of a colour is a colour.
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };

  const axis = (own) => ({
    gridcolor: colour("rule"), linecolor: colour("rule"), zeroline: false, zerolinecolor: colour("ink-soft"), automargin: true, nticks: 8,
    tickfont: { size: 12, color: colour("ink-soft") },
    ...own,
    title: { ...own.title, font: { size: 12.5, color: colour("ink-soft") }, standoff: 8 },
  });

  const isMap = (figure, view) => view.traces.some((place) => figure.traces[place].type === "heatmap");

  const hasDots = (figure, view) => view.traces.some((place) => figure.traces[place].mode === "markers");

  const layout = (figure, view) => ({
    font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("ink") },
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 8, r: 12, t: 28, b: 8 }, // the buttons of the plot stand above it
    hovermode: isMap(figure, view) || hasDots(figure, view) ? "closest" : "x unified",
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("rule"), font: { color: colour("ink") } },
    showlegend: view.traces.length > 1 || view.traces.some((place) => figure.traces[place].runs),
    legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", bgcolor: "rgba(0,0,0,0)" },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("ink-soft"), activecolor: colour("accent") },
    xaxis: { ...axis(view.xaxis), ...(view.lower ? { anchor: "y2" } : {}) },
    yaxis: { ...axis(view.yaxis), ...(view.lower ? { domain: UPPER } : {}) },
    ...(view.lower ? { yaxis2: { ...axis(view.lower), domain: LOWER } } : {}),
    uirevision: view.label, // a zoom outlives a change of colours, not of view
    ...(!printing ? { autosize: true } : view.lower ? TWO_ON_PAPER : view.yaxis.scaleanchor ? SQUARE_ON_PAPER : ON_PAPER),
  });

  const colouredMap = (trace) => ({
    ...trace,
    colorbar: {
      ...trace.colorbar, thickness: 12, outlinewidth: 0, tickfont: { size: 11, color: colour("ink-soft") },
    },
  });

  const boxes = [...document.querySelectorAll("#picker input")];
  const isShown = ({ runs = [], alone }) =>
    runs.every((run) => !hidden.has(run)) && (!alone || runs.length === boxes.length - hidden.size);

  const coloured = (view, trace) => {
    const { colour: name, line, x, runs, title, alone, ...rest } = trace;
    if (trace.type === "heatmap") return { ...colouredMap(rest), x };
    const ink = colour(name);
    // Step 0 has no place on a logarithmic axis, and Plotly would draw a level line from it.
    const steps = view.xaxis.type === "log" ? x.map((step) => (step > 0 ? step : null)) : x;
    const fill = rest.fill ? { fillcolor: ink.replace("rgb(", "rgba(").replace(")", ", 0.18)") } : {};
    return { ...rest, ...fill, x: steps, line: { ...line, color: ink }, marker: { size: 6, ...rest.marker, color: ink } };
  };

  const draw = (figure) => {
    const view = figure.views[chosen.get(figure.key)];
    const place = document.querySelector(`#figure-${figure.key} .plot`);
    const shown = view.traces.map((number) => figure.traces[number]).filter(isShown);
    let traces = shown.map((trace) => coloured(view, trace));
    let own = layout(figure, view);
    place.style.height = "";
    if (shown.some((trace) => trace.title)) {
      const width = printing ? ON_PAPER.width : place.clientWidth;
      const titled = traces.map((trace, number) => ({ ...trace, title: shown[number].title, alone: shown[number].alone }));
      const panels = sideBySide(titled, view, width, axis, colour("ink"));
      traces = panels.traces.map(({ title, alone, ...trace }) => trace);
      const { xaxis, yaxis, ...rest } = own;
      own = { ...rest, ...panels.layout, ...(printing ? { width, height: panels.height } : {}) };
      place.style.height = `${panels.height}px`;
    }
    const options = {
      responsive: true, displaylogo: false, modeBarButtons: [["resetScale2d", "toImage"]],
      toImageButtonOptions: { format: "svg", filename: figure.key },
    };
    return Plotly.react(place, traces, own, options);
  };
  const drawAll = () => Promise.all(figures.map(draw));

  const addSwitch = (figure) => {
    if (figure.views.length < 2) return;
    const place = document.querySelector(`#figure-${figure.key} .switch`);
    const long = figure.views.some((view) => view.label.length > LONGEST_BUTTON);
    if (long || figure.views.length > MOST_BUTTONS) place.append(listOf(figure));
    else place.append(...buttonsOf(figure));
  };

  const listOf = (figure) => {
    const list = document.createElement("select");
    list.setAttribute("aria-label", figure.title);
    figure.views.forEach((view, place) => list.add(new Option(view.label, String(place))));
    list.value = "0"; // a browser that comes back to a page would keep another choice
    list.addEventListener("change", () => { chosen.set(figure.key, Number(list.value)); draw(figure); });
    return list;
  };

  const buttonsOf = (figure) => {
    const buttons = figure.views.map((view, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = view.label;
      button.addEventListener("click", () => { chosen.set(figure.key, place); press(); draw(figure); });
      return button;
    });
    const press = () => buttons.forEach((button, place) =>
      button.setAttribute("aria-pressed", String(place === chosen.get(figure.key))));
    press();
    return buttons;
  };

  boxes.forEach((box, run) => {
    box.checked = true; // likewise
    box.addEventListener("change", () => {
      if (box.checked) hidden.delete(run); else hidden.add(run);
      drawAll();
    });
  });

  let resized = 0;
  addEventListener("resize", () => {
    clearTimeout(resized);
    resized = setTimeout(() => { if (boxes.length && !printing) drawAll(); }, 150); // panels fill rows of another width
  });

  const toggle = document.getElementById("theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches);
  const show = () => { toggle.textContent = isDark() ? "Light" : "Dark"; return drawAll(); };
  toggle.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; show(); });
  toggle.hidden = false;
  systemDark.addEventListener("change", show);

  let folded = [];
  let themeOnScreen;
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((part) => { part.open = true; });
    themeOnScreen = root.dataset.theme;
    root.dataset.theme = "light";
    printing = true;
    drawAll();
  });
  addEventListener("afterprint", () => {
    folded.forEach((part) => { part.open = false; });
    if (themeOnScreen) root.dataset.theme = themeOnScreen; else delete root.dataset.theme;
    printing = false;
    drawAll();
  });

  figures.forEach(addSwitch);
  show().then(() => { root.dataset.drawn = figures.length; });
})();
