/* Keys and pointer */
const ARROWS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
function moveTo([y, x], stay = true) {
  set({y: clamp(y, 0, D.size[0] - 1), x: clamp(x, 0, D.size[1] - 1)});
  if (stay) home = here();
}
function step(move) {
  const {stride, grid} = site(), q = query();
  moveTo([0, 1].map(k => center(clamp(q[k] + move[k] * source().step, 0, grid[k] - 1), stride[k])));
}
const pin = () => set({pins: [...S.pins.slice(-3), here()]});
const toPin = k => S.pins[k] && moveTo(S.pins[k]);
const cycle = name => set({[name]: choices(name)[(choices(name).indexOf(S[name]) + 1) % choices(name).length]});
const toLayer = l => set({layer: clamp(l, 0, LAST)});
const toColumn = c => set({column: clamp(c, 0, source().offsets - 1)});
function clear() {
  if (S.region || S.block || S.brush || S.column !== null) return set({region: null, block: null, brush: null, column: null, path: false});
  view = null;
  set({pins: []});
}
function compare() {
  set(calm.matches ? {compare: "blink", model: 1 - S.model} : {compare: S.compare === "blink" ? "" : "blink"});
  blink();
}
const COMMANDS = {
  "[": () => toLayer(S.layer - 1), "]": () => toLayer(S.layer + 1),
  ",": () => toColumn((S.column ?? source().offsets) - 1), ".": () => toColumn((S.column ?? -1) + 1),
  h: () => set({axis: S.axis === "h" ? "hv" : "h"}), v: () => set({axis: S.axis === "v" ? "hv" : "v"}),
  1: () => toPin(0), 2: () => toPin(1), 3: () => toPin(2), 4: () => toPin(3),
  c: () => PAIR && compare(), x: () => PAIR && set({model: 1 - S.model}), u: () => cycle("unit"), m: () => cycle("order"),
  p: () => set({path: !S.path, column: S.column ?? 0}), "/": () => $("layer").focus(), "?": () => $("help").showModal(),
  e: () => { $("export").open = true; $("export").querySelector("button").focus(); }, Escape: clear,
};
on(document, "keydown", event => {
  const {key, target} = event, arrow = ARROWS[key], inside = selector => target.closest(selector);
  if (event.ctrlKey || event.metaKey || event.altKey || inside("dialog") || (inside("select") && key !== "Escape")) return;
  if (inside("#grid") && gridKey(event)) event.preventDefault();
  else if (arrow && !inside("input,details,#grid")) {
    event.preventDefault();
    step(arrow.map(move => move * (event.shiftKey ? 8 : 1)));
  } else if (key === "Enter" && target === $("stage")) pin();
  else if (key === "Escape" && $("export").open) {
    $("export").open = false;
    $("export").querySelector("summary").focus();
  } else if (Object.hasOwn(COMMANDS, key)) {
    event.preventDefault();
    COMMANDS[key]();
  }
});
const leave = () => { hot = null; draw(); };
on($("cell"), "blur", leave);

let press = null, grip = null, brush = null;
const stage = $("stage"), cells = $("cells");
const spotOf = event => new DOMPoint(event.clientX, event.clientY).matrixTransform(scene.getScreenCTM().inverse());
const pointOf = event => toInput(spotOf(event).y, spotOf(event).x);
on(stage, "pointerdown", event => {
  press = {x: event.clientX, y: event.clientY, from: pointOf(event), pan: event.shiftKey, view: {...view}, moved: false};
  stage.setPointerCapture(event.pointerId);
});
on(stage, "pointermove", event => {
  const x = event.clientX - press?.x, y = event.clientY - press?.y;
  if (press && Math.hypot(x, y) > 5) press.moved = true;
  if (!press?.moved) return S.region || moveTo(pointOf(event), false);
  if (press.pan) {
    view = {...press.view, x: press.view.x - x * perPx(), y: press.view.y - y * perPx()};
    return draw();
  }
  const [a, b] = [press.from, pointOf(event)];
  S.region = [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[0], b[0]), Math.max(a[1], b[1])];
  moveTo([(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
});
on(stage, "pointerup", event => {
  if (press && !press.moved && !press.pan) {
    S.region = null;
    moveTo(pointOf(event));
    pin();
  }
  press = null;
});
on(stage, "pointercancel", () => { press = null; });
on(stage, "pointerleave", () => press || moveTo(home));
on(stage, "wheel", event => {
  event.preventDefault();
  const spot = spotOf(event), all = wholeBox(), by = clamp(view.width * 1.15 ** Math.sign(event.deltaY), all.width / 40, all.width) / view.width;
  view = by * view.width >= all.width ? all : {x: spot.x - (spot.x - view.x) * by, y: spot.y - (spot.y - view.y) * by,
    width: view.width * by, height: view.height * by};
  draw();
}, {passive: false});
on(cells, "pointerdown", event => {
  grip = cellAt(event);
  cells.setPointerCapture(event.pointerId);
});
on(cells, "pointermove", event => {
  const spot = cellAt(event), sorted = (a, b) => [Math.min(a, b), Math.max(a, b)];
  if (grip?.axis && grip.inRows && spot.axis === grip.axis && (spot.layer !== grip.layer || spot.position !== grip.position))
    S.block = {axis: grip.axis, layers: sorted(grip.layer, spot.layer), columns: sorted(grip.position, spot.position)};
  hot = spot.inRows && spot.column !== undefined ? spot : null;
  draw();
});
on(cells, "pointerup", event => {
  const spot = cellAt(event), isClick = grip && spot.layer === grip.layer && spot.position === grip.position;
  grip = null;
  if (!isClick) return;
  if (spot.isName) return toLayer(spot.layer);
  if (spot.column === undefined) return;
  if (!spot.isHead) cursor = spot;
  set({layer: spot.layer, column: spot.column, block: null, path: spot.isHead});
});
on(cells, "pointerleave", leave);
const binOf = event => $("bars").firstChild.binAt(event);
const brushTo = ({bin}) => set({brush: {axis: brush.axis, low: Math.min(brush.bin, bin), high: Math.max(brush.bin, bin)}});
on($("bars"), "pointerdown", event => {
  brush = binOf(event);
  event.preventDefault();
});
on(window, "pointermove", event => brush && brushTo(binOf(event)));
on(window, "pointerup", event => {
  if (brush) brushTo(binOf(event));
  brush = null;
});
