/* The image with samples. It is SVG in pixels of the photograph; `scale` is the size of a pixel of the screen in them. */
const NS = "http://www.w3.org/2000/svg", WIDTH = "stroke-width";
const INK = {horizontal: "#0072b2", vertical: "#d55e00", point: "#009e73", lit: "#f0e442"};
let view = null, scene = null, moving = null, laid = "", pinned = "";
const at = value => +value.toFixed(3);
function el(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const key in attributes) {
    const value = attributes[key];
    element.setAttribute(key, typeof value === "number" ? at(value) : value);
  }
  element.append(...children);
  return element;
}
const ring = (x, y, r, scale, rest, inner) => lines("", 2, scale, {cx: x, cy: y, r, ...rest}, inner);
const lines = (d, width, scale, rest = {}, inner = "#fff") => [["#000", width + 1.6], [inner, width]].map(([stroke, wide]) =>
  el(rest.r ? "circle" : "path", {...(d && {d}), ...rest, fill: "none", stroke, [WIDTH]: wide * scale}));
function label(text, x, y, scale, size = 14, anchor = "middle") {
  const element = el("text", {x, y, "font-size": size * scale, "font-family": "sans-serif", "text-anchor": anchor, fill: "#fff",
    stroke: "#000", [WIDTH]: 3 * scale, "paint-order": "stroke"});
  element.textContent = text;
  return element;
}
function toImage(y, x) { // as geometry.Placement.to_image
  const {image: size, resized, origin} = image();
  return [(y + origin[0] + 0.5) * size[0] / resized[0] - 0.5, (x + origin[1] + 0.5) * size[1] / resized[1] - 0.5];
}
function toInput(y, x) {
  const {image: size, resized, origin} = image();
  return [(y + 0.5) * resized[0] / size[0] - 0.5 - origin[0], (x + 0.5) * resized[1] / size[1] - 0.5 - origin[1]];
}
function tokenPx(l, i, j) {
  const {stride} = site(l);
  return toImage(center(i, stride[0]), center(j, stride[1]));
}
function box(top, left, bottom, right) {
  return `M${at(left)} ${at(top)}H${at(right)}V${at(bottom)}H${at(left)}Z`;
}
const seen = () => [...toImage(-0.5, -0.5), ...toImage(D.size[0] - 0.5, D.size[1] - 0.5)];
function wholeBox() {
  const [height, width] = image().image;
  return {x: -0.5, y: -0.5, width, height};
}
const frame = ({x, y, width, height} = wholeBox()) => el("svg", {xmlns: NS, viewBox: [x, y, width, height].map(at).join(" ")});
function backdrop(l, scale) {
  const {image: [height, width], photo, outlines} = image(), [top, left, bottom, right] = seen(), all = wholeBox();
  const group = el("g", {}, photo ? el("image", {...all, href: photo, preserveAspectRatio: "none"}) : el("rect", {...all, fill: "#777"}),
    el("path", {d: box(-0.5, -0.5, height - 0.5, width - 0.5) + box(top, left, bottom, right), "fill-opacity": 0.5, "fill-rule": "evenodd"}));
  if ($("outlines").checked) for (const line of outlines) {
    const corners = range(line.length / 2).map(k => `${line[2 * k]} ${line[2 * k + 1]}`);
    group.append(...lines(`M${corners.join("L")}Z`, 1, scale));
  }
  if ($("lines").checked) {
    const [rows, columns] = site(l).grid, high = (bottom - top) / rows, wide = (right - left) / columns;
    const d = [...range(rows).map(i => `M${at(left)} ${at(top + i * high)}H${at(right)}`),
      ...range(columns).map(j => `M${at(left + j * wide)} ${at(top)}V${at(bottom)}`)].join("");
    group.append(el("path", {d, fill: "none", stroke: "#fff", "stroke-opacity": 0.45, [WIDTH]: 0.7 * scale}));
  }
  return group;
}
function marks(model, l, scale, tokens) { // what a query samples: circles, diamonds and squares, see figures.samples
  const q = tokens?.[0] ?? query(l), o = offsets(model, l, tokens), n = o.length / 2, glow = tokens ? null : lit(l, o), group = el("g");
  const {kind, share, grid} = site(l), isPoint = kind === "point", dots = {};
  for (const axis of isPoint ? "h" : S.axis) for (let c = 0; c < n; c++) {
    const i = q[0] + (isPoint || axis === "v" ? rint(o[n + c]) : 0), j = q[1] + (isPoint || axis === "h" ? rint(o[c]) : 0);
    if (i < 0 || j < 0 || i >= grid[0] || j >= grid[1]) continue;
    const dot = dots[[axis, i, j]] ??= {kind: isPoint ? kind : AXES[axis], i, j, count: 0, glows: false};
    dot.count += share;
    dot.glows ||= glow && (glow[axis].has(c) || isPoint && glow.v.has(c));
  }
  const [y0, x0] = tokenPx(l, 0, 0), [y1, x1] = tokenPx(l, 1, 1), r = at(clamp(0.47 * Math.min(y1 - y0, x1 - x0), 2.4 * scale, 11 * scale));
  const strongest = Math.max(...Object.values(dots).map(dot => dot.count)), [y, x] = tokenPx(l, ...q);
  for (const {kind, i, j, count, glows} of Object.values(dots)) {
    const [y, x] = tokenPx(l, i, j), style = {class: kind, "data-count": count, fill: glows ? INK.lit : INK[kind], stroke: glows ? "#000" : "#fff",
      "fill-opacity": glows ? 1 : 0.2 + 0.8 * Math.sqrt(count / strongest), [WIDTH]: (glows ? 2 : 0.8) * scale};
    group.append(kind === "horizontal" ? el("circle", {cx: x, cy: y, r, ...style})
      : isPoint ? el("rect", {x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...style})
      : el("path", {d: `M${at(x)} ${at(y - r)}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`, ...style}));
  }
  group.append(...ticks(l, samples(l, o, q).outside, y, x, scale), ...ring(x, y, Math.max(r, 4.5 * scale), scale, {class: "query"}));
  return group;
}
function ticks(l, outside, y, x, scale) { // samples outside the map: a bar at that border, longer for more channels
  const [top, left, bottom, right] = seen(), all = source(l).offsets * site(l).share;
  return beyond(outside).map(([side, count]) => {
    const size = (8 + 40 * count / all) * scale, edge = {top, left, bottom, right}[side];
    const d = SIDES[side] === "h" ? `M${at(edge)} ${at(y - size / 2)}v${at(size)}` : `M${at(x - size / 2)} ${at(edge)}h${at(size)}`;
    return el("path", {class: `outside ${side}`, "data-count": count, d, stroke: INK[AXES[SIDES[side]]], [WIDTH]: 7 * scale});
  });
}
function pathOf(column, scale) { // where one column points, layer after layer
  const spots = range(LAST + 1).filter(l => site(l).name === site(l).source && column < source(l).offsets).map(l => {
    const o = offsets(S.model, l), {stride} = site(l);
    return toImage(S.y + half(o, "v")[column] * stride[0], S.x + half(o, "h")[column] * stride[1]);
  });
  return [...lines(`M${spots.map(([y, x]) => `${at(x)} ${at(y)}`).join("L")}`, 2, scale, {class: "path"}, INK.lit),
    ...spots.flatMap(([y, x]) => ring(x, y, 2 * scale, scale, {}, INK.lit))];
}
function overlay(scale) { // all that changes with the query
  const group = el("g"), l = S.layer, [top, left, bottom, right] = seen();
  if (S.compare === "split") {
    const cut = left + (right - left) * S.split / 100;
    [[S.model, left, cut], [1 - S.model, cut, right]].forEach(([model, from, to], k) => {
      const part = marks(model, l, scale);
      part.setAttribute("clip-path", `url(#side${k})`);
      group.append(el("clipPath", {id: `side${k}`}, el("rect", {x: from, y: top, width: to - from, height: bottom - top})), part,
        label(LETTERS[model], k ? right - 6 * scale : left + 6 * scale, top + 18 * scale, scale, 15, k ? "end" : "start"));
    });
    group.append(...lines(`M${at(cut)} ${at(top)}V${at(bottom)}`, 2, scale));
  } else group.append(marks(S.model, l, scale));
  if (S.path && S.column !== null) group.append(...pathOf(S.column, scale));
  if (S.region) group.append(...lines(box(...toImage(S.region[0], S.region[1]), ...toImage(S.region[2], S.region[3])), 2, scale, {}, INK.lit));
  S.pins.forEach((point, k) => {
    const [y, x] = tokenPx(l, ...query(l, point));
    group.append(...ring(x, y, 1.5 * scale, scale), label(LETTERS[k], x, y - 8 * scale, scale));
  });
  return group;
}
const perPx = () => 1 / (scene.getScreenCTM()?.a || 1);
function drawImage() {
  view ??= wholeBox();
  const key = [S.image, S.layer, $("lines").checked, $("outlines").checked, view.width, $("stage").clientWidth].join();
  if (key !== laid) {
    laid = key;
    $("stage").replaceChildren(scene = frame(view));
    scene.append(backdrop(S.layer, perPx()), moving = el("g"));
  }
  scene.setAttribute("viewBox", [view.x, view.y, view.width, view.height].map(at).join(" "));
  const next = overlay(perPx());
  moving.replaceWith(next);
  moving = next;
}
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
function drawPins() {
  const key = [S.pins, S.image, S.layer, S.model, S.axis].join();
  $("pins").hidden = !S.pins.length;
  if (key === pinned) return;
  pinned = key;
  $("pins").replaceChildren(...S.pins.map((point, k) => {
    const small = frame(), scale = image().image[1] / 110, q = query(S.layer, point);
    small.append(backdrop(S.layer, scale), marks(S.model, S.layer, scale, [q]));
    const button = make("button", {type: "button"}, small, make("span", {textContent: `${LETTERS[k]}: ${q.join(", ")}`}));
    on(button, "click", () => toPin(k));
    return button;
  }));
}
