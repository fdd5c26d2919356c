/* The image with samples. It is SVG in pixels of the photograph. */
const NS = "http://www.w3.org/2000/svg", WIDTH = "stroke-width";
let view = null, scenes = [], laid = "", pinned = "", px = 1; // px: size of a pixel of the screen in these pixels
const ink = () => D.palettes[S.palette], at = value => typeof value === "number" ? +value.toFixed(3) : value;
const path = (words, ...values) => String.raw({raw: words}, ...values.map(at)); // of rounded numbers
function el(name, attributes = {}, ...children) {
  const element = document.createElementNS(NS, name);
  for (const key in attributes) element.setAttribute(key, at(attributes[key]));
  element.append(...children);
  return element;
}
const lines = (d, width, rest, inner = "#fff") => [["#000", width + 1.6], [inner, width]].map(([stroke, wide]) =>
  el(rest?.r ? "circle" : "path", {d, ...rest, fill: "none", stroke, [WIDTH]: wide * px}));
const ring = (cx, cy, r, rest, inner) => lines("", 2, {cx, cy, r, ...rest}, inner);
const write = (text, x, y, rest) => el("text", {x, y, "font-family": "system-ui, sans-serif", ...rest}, text);
const label = (text, x, y, anchor = "middle") => write(text, x, y, {"font-size": 14 * px, "text-anchor": anchor, fill: "#fff", stroke: "#000",
  [WIDTH]: 3 * px, "paint-order": "stroke"});
function mark(kind, x, y, r, style) { // circles, diamonds and squares, see figures.samples
  return kind === "horizontal" ? el("circle", {cx: x, cy: y, r, ...style})
    : kind === "point" ? el("rect", {x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...style})
    : el("path", {d: path`M${x} ${y - r}l${r} ${r}l${-r} ${r}l${-r} ${-r}z`, ...style});
}
const toImage = (...spot) => both(k => (spot[k] + image().origin[k] + 0.5) * image().image[k] / image().resized[k] - 0.5); // as geometry.Placement.to_image
const toInput = (...spot) => both(k => (spot[k] + 0.5) * image().resized[k] / image().image[k] - 0.5 - image().origin[k]);
const tokenPx = (l, ...token) => toImage(...middle(l, ...token));
const box = (top, left, bottom, right) => path`M${left} ${top}H${right}V${bottom}H${left}Z`;
const seen = () => [...toImage(-0.5, -0.5), ...toImage(D.size[0] - 0.5, D.size[1] - 0.5)];
const viewBox = ({x, y, width, height}) => path`${x} ${y} ${width} ${height}`;
const frame = (shape = image().box, rest) => el("svg", {xmlns: NS, viewBox: viewBox(shape), ...rest});
function backdrop() {
  const {image: [height, width], photo, outlines} = image(), [top, left, bottom, right] = seen(), all = image().box, [rows, columns] = site().grid;
  const group = el("g", {}, photo ? el("image", {...all, href: photo, preserveAspectRatio: "none"}) : el("rect", {...all, fill: "#777"}),
    el("path", {d: box(-0.5, -0.5, height - 0.5, width - 0.5) + box(top, left, bottom, right), "fill-opacity": 0.5, "fill-rule": "evenodd"}));
  if ($("outlines").checked) for (const line of outlines) group.append(...lines(`M${line}Z`, 1)); // x and y by turns
  if ($("lines").checked) {
    const d = [...range(rows).map(i => path`M${left} ${top + i * (bottom - top) / rows}H${right}`),
      ...range(columns).map(j => path`M${left + j * (right - left) / columns} ${top}V${bottom}`)].join("");
    group.append(el("path", {d, stroke: "#fff", "stroke-opacity": 0.45, [WIDTH]: 0.7 * px}));
  }
  return group;
}
const fusion = (model, l) => D.models[model].fusion[site(l).name][S.image];
function marks(model, tokens) { // what a query samples; where both axes sample a token, the diamond leaves the circle to be seen
  const l = S.layer, q = tokens?.[0] ?? query(l), o = offsets(model, l, tokens), glow = tokens ? null : lit(l, o), group = el("g"), dots = {};
  const {kind, share, grid} = site(l), isPoint = kind === "point", weights = S.weight === "count" ? [1, 1] : fusion(model, l);
  for (const axis of isPoint ? "h" : S.axis) targets(o, q).forEach(([i, j], c) => {
    const spot = isPoint ? [i, j] : axis === "h" ? [q[0], j] : [i, q[1]];
    if (spot.some((index, k) => index < 0 || index >= grid[k])) return;
    const dot = dots[[axis, spot]] ??= {kind: isPoint ? kind : AXES[axis], spot, weight: weights[nth(axis)], count: 0};
    dot.count += share;
    dot.glows ||= glow?.(axis, c) || isPoint && glow?.("v", c);
  });
  const [y, x] = tokenPx(l, ...q), [y1, x1] = tokenPx(l, q[0] + 1, q[1] + 1), r = at(clamp(0.47 * min(y1 - y, x1 - x), 2.4 * px, 11 * px));
  const strongest = max(...Object.values(dots).map(dot => dot.count * dot.weight));
  for (const {kind, spot, count, weight, glows} of Object.values(dots)) {
    const [y, x] = tokenPx(l, ...spot), isOver = kind === "vertical" && dots[["h", spot]];
    group.append(mark(kind, x, y, isOver ? at(0.6 * r) : r, {class: kind, "data-count": count, fill: ink()[glows ? "lit" : kind], stroke: glows ? "#000" : "#fff",
      "fill-opacity": glows ? 1 : 0.2 + 0.8 * sqrt(count * weight / strongest), [WIDTH]: (glows ? 2 : 0.8) * px}));
  }
  const [top, left, bottom, right] = seen();
  for (const [side, count] of beyond(l, o, q)) { // a bar at the border, longer for more channels
    const size = (8 + 40 * count / share / source().offsets) * px, edge = {top, left, bottom, right}[side];
    group.append(el("path", {class: `outside ${side}`, stroke: ink()[AXES[SIDES[side]]], [WIDTH]: 7 * px,
      d: SIDES[side] === "h" ? path`M${edge} ${y - size / 2}v${size}` : path`M${x - size / 2} ${edge}h${size}`}));
  }
  group.append(...ring(x, y, max(r + 2 * px, 4.5 * px), {class: "query"}));
  return group;
}
function pathOf(column) { // where one column points, layer after layer
  const spots = range(LAST + 1).filter(l => site(l).name === site(l).source && column < source(l).offsets).map(l => {
    const o = offsets(seenModel(), l);
    return toImage(...both(k => here()[k] + half(o, "vh"[k])[column] * site(l).stride[k]));
  });
  return [...lines(`M${spots.map(([y, x]) => path`${x} ${y}`).join("L")}`, 2, {class: "path"}, ink().lit), ...spots.flatMap(([y, x]) => ring(x, y, 2 * px, {}, ink().lit))];
}
function overlay(models, shape = view) { // all that changes with the query: of one model, or split between two
  const group = el("g"), [top, left, bottom, right] = seen(), cut = left + (right - left) * S.split / 100, isSplit = models.length > 1;
  models.forEach((model, k) => {
    const part = marks(model);
    group.append(part);
    if (isSplit) {
      part.setAttribute("clip-path", `url(#side${k})`);
      group.append(el("clipPath", {id: `side${k}`}, el("path", {d: k ? box(top, cut, bottom, right) : box(top, left, bottom, cut)})));
    }
    if (PAIR) group.append(label(short((isDiff() ? "dots: " : "") + named(model), floor(shape.width / px / 9)), shape.x + (k ? shape.width - 6 * px : 6 * px), shape.y + (20 + 20 * k) * px, k ? "end" : "start"));
  });
  if (isSplit) group.append(...lines(path`M${cut} ${top}V${bottom}`, 2));
  if (S.path && S.column !== null) group.append(...pathOf(S.column));
  if (S.region) group.append(...lines(box(...toImage(...S.region.slice(0, 2)), ...toImage(...S.region.slice(2))), 2, {}, ink().lit));
  S.pins.forEach((point, k) => {
    const [y, x] = tokenPx(S.layer, ...query(S.layer, point));
    group.append(...ring(x, y, 1.5 * px), label(k + 1, x, y - 8 * px));
  });
  return group;
}
const pictures = () => S.compare === "side" ? pair().map(model => [model]) : [seenModels()]; // whose dots, of each picture
const perPx = () => 1 / (scenes[0].getScreenCTM()?.a || 1);
function drawImage() {
  view ??= image().box;
  const all = pictures(), key = [S.image, S.layer, $("lines").checked, $("outlines").checked, view.width, stage.clientWidth, all.length].join(), isNew = key !== laid;
  laid = key;
  if (isNew) stage.replaceChildren(...scenes = all.map(() => frame(view)));
  px = perPx();
  scenes.forEach((scene, k) => {
    if (isNew) scene.append(backdrop(), el("g"));
    scene.setAttribute("viewBox", viewBox(view));
    scene.lastChild.replaceWith(overlay(all[k]));
  });
}
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}
function drawPins() {
  const key = [S.pins, S.image, S.layer, seenModel(), S.axis, S.weight, S.palette].join();
  $("pins").hidden = !S.pins.length;
  if (key === pinned) return;
  pinned = key;
  px = image().image[1] / 110;
  $("pins").replaceChildren(...S.pins.map((point, k) => {
    const small = frame(), q = query(S.layer, point), button = make("button", {type: "button"}, small, make("span", {textContent: `${k + 1}: ${q.join(", ")}`}));
    small.append(backdrop(), marks(seenModel(), [q]));
    on(button, "click", () => moveTo(point));
    return button;
  }));
}
