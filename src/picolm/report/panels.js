"use strict";
// Lays heat maps side by side, as many in a row as fit, with one bar of colours for all runs and one for what two differ in.
const sideBySide = (() => {
  const CHARACTER = 6.8; // width of a letter of a tick, in pixels, generously
  const [TITLE, BAR, HEIGHT] = [26, 68, 190]; // of a panel, in pixels
  const [LEAST, LEAST_SQUARE, LARGEST_SQUARE] = [112, 170, 320];
  const TOP = 26; // the buttons of the plot stand there

  const longest = (names) => Math.max(...names.map((name) => name.replace(/&\w+;/g, "&").length), 1);
  const every = (names, most) => {
    const stride = Math.ceil(names.length / Math.max(1, most));
    return names.filter((_, place) => place % stride === 0);
  };
  // Titles are escaped already: an entity must not be cut in two.
  const fitting = (title, width) => {
    const most = Math.floor(width / CHARACTER);
    return title.length <= most || title.includes("&") ? title : `${title.slice(0, most - 1)}…`;
  };

  const measure = (maps, isSquare, width) => {
    const names = { x: maps.flatMap((map) => map.x), y: maps.flatMap((map) => map.y) };
    const left = Math.min(150, longest(names.y) * CHARACTER + 30);
    const gap = isSquare ? left : 16; // where rows are not the same in all, each map names its own
    const least = isSquare ? LEAST_SQUARE : LEAST;
    const hasDifference = maps.some((map) => map.alone);
    // What two differ in has a bar of its own: in one row with the runs it stands behind theirs.
    const fit = (between) => Math.floor((width - left - BAR - between + gap) / (least + gap));
    const between = hasDifference && fit(BAR) >= maps.length ? BAR : 0;
    const rows = Math.ceil(maps.length / Math.max(1, hasDifference && !between ? Math.min(fit(0), maps.length - 1) : fit(between)));
    const columns = Math.ceil(maps.length / rows);
    const free = (width - left - BAR - between - gap * (columns - 1)) / columns;
    const across = Math.max(40, isSquare ? Math.min(LARGEST_SQUARE, free) : free);
    const down = isSquare ? (across * maps[0].y.length) / maps[0].x.length : HEIGHT;
    const fits = Math.floor(across / (longest(names.x) * CHARACTER + 12));
    const isUpright = fits < Math.min(maps[0].x.length, 4);
    const below = (isUpright ? longest(names.x) * CHARACTER : 16) + 30;
    return {
      left, gap, between, columns, across, down, isUpright, height: TITLE + down + below,
      ticks: isUpright ? across / 18 : fits, area: [width - left - BAR, rows * (TITLE + down + below)],
    };
  };

  // Returns Plotly's traces and layout, and the height of the plot.
  return (maps, view, width, axis, ink) => {
    const isSquare = Boolean(view.yaxis.scaleanchor);
    const size = measure(maps, isSquare, width);
    const [areaWidth, areaHeight] = size.area;
    const layout = { margin: { l: size.left, r: BAR, t: TOP, b: 0 }, annotations: [] };
    const barred = new Set();
    const traces = maps.map((map, place) => {
      const number = place === 0 ? "" : place + 1;
      const column = place % size.columns;
      const from = column * (size.across + size.gap) + (map.alone ? size.between : 0);
      const top = Math.floor(place / size.columns) * size.height + TITLE;
      const domain = [1 - (top + size.down) / areaHeight, 1 - top / areaHeight];
      const { scaleanchor, constrain, ...up } = view.yaxis;
      layout[`xaxis${number}`] = {
        ...axis({ ...view.xaxis, constrain: undefined }), automargin: false, showgrid: false, anchor: `y${number}`,
        domain: [from / areaWidth, (from + size.across) / areaWidth],
        tickmode: "array", tickvals: every(map.x, size.ticks), tickangle: size.isUpright ? -90 : 0,
      };
      layout[`yaxis${number}`] = {
        ...axis(up), automargin: false, showgrid: false, anchor: `x${number}`, domain,
        tickmode: "array", tickvals: every(map.y, size.down / 15),
        ...(column === 0 ? {} : { showticklabels: isSquare, title: {} }),
        ...(isSquare || place === 0 ? {} : { matches: "y" }), // one zoom for the layers of all
      };
      layout.annotations.push({
        text: fitting(map.title, size.across), x: from / areaWidth, y: domain[1], xref: "paper", yref: "paper",
        xanchor: "left", yanchor: "bottom", showarrow: false, font: { size: 12.5, color: ink },
      });
      // The bar stands behind the last map of its kind in the row where the first is.
      const kind = Boolean(map.alone);
      const isFirst = !barred.has(kind);
      barred.add(kind);
      const inRow = kind ? 1 : Math.min(size.columns, maps.filter((other) => !other.alone).length);
      const end = kind ? from + size.across : inRow * (size.across + size.gap) - size.gap;
      return {
        ...map, xaxis: `x${number}`, yaxis: `y${number}`, showscale: isFirst,
        colorbar: {
          ...map.colorbar, lenmode: "pixels", len: size.down, x: (end + 8) / areaWidth, xpad: 0,
          y: domain[1], yanchor: "top", ypad: 0,
        },
      };
    });
    return { traces, layout, height: areaHeight + TOP };
  };
})();
