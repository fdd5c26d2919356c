/* Keys and pointer */
const ARROWS = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
function moveTo([y, x], stay = true) {
  set({y: clamp(y, 0, D.size[0] - 1), x: clamp(x, 0, D.size[1] - 1)});
  if (stay) home = here();
}
function step(move) {
  const q = query();
  moveTo(middle(S.layer, ...both(k => clamp(q[k] + move[k] * source().step, 0, site().grid[k] - 1))));
}
const pin = () => set({pins: [...S.pins.slice(-3), here()]});
const toLayer = l => set({layer: clamp(l, 0, LAST)}), only = axis => set({axis: S.axis === axis ? "hv" : axis});
const cycle = name => set({[name]: choices(name)[(choices(name).indexOf(S[name]) + 1) % choices(name).length]});
function toColumn(move) { // to the right or left, as columns are shown
  const columns = order(S.layer, S.axis[0]), from = S.column === null && move < 0 ? columns.length : columns.indexOf(S.column);
  set({column: columns[clamp(from + move, 0, columns.length - 1)]});
}
function clear() {
  if (S.region || S.block || S.brush || S.column !== null) return set({region: null, block: null, brush: null, column: null, path: false});
  view = null;
  set({pins: []});
}
function compare() {
  set({compare: S.compare === "blink" && !calm.matches ? "" : "blink"});
  blink();
  if (calm.matches) turn();
}
function find(text) { // the layer of that name, or else the first that has it in its name
  const l = [NAMES.indexOf(text), NAMES.findIndex(name => name.includes(text))].find(l => l >= 0);
  $("find").ariaInvalid = l === undefined;
  if (l === undefined) speak(`no layer ${text}`); else toLayer(l);
}
const COMMANDS = {
  "[": () => toLayer(S.layer - 1), "]": () => toLayer(S.layer + 1), ",": () => toColumn(-1), ".": () => toColumn(1),
  h: () => only("h"), v: () => only("v"),
  c: () => PAIR && compare(), x: () => PAIR && set({model: 1 - S.model}), u: () => cycle("unit"), m: () => cycle("order"),
  p: () => set({path: !S.path, column: S.column ?? 0}), "/": () => $("find").select(), "?": () => $("help").showModal(),
  e: () => { menu.open = true; menu.querySelector("button").focus(); }, Escape: clear,
};
on(document, "keydown", event => {
  const {key, target} = event, arrow = ARROWS[key], inside = selector => target.closest(selector);
  if (event.ctrlKey || event.metaKey || event.altKey || inside("dialog") || inside("select,#find") && key !== "Escape" && key !== "Enter") return;
  if (inside("#find")) stage.focus();
  else if (key === "Enter" && target === stage) pin();
  else if (key === "Escape" && menu.open) {
    menu.open = false;
    menu.querySelector("summary").focus();
  } else {
    const act = inside("#grid") && gridKey(event) || !inside("input,details,#grid") && arrow && (() => step(arrow.map(move => move * (event.shiftKey ? 8 : 1))))
      || S.pins[key - 1] && (() => moveTo(S.pins[key - 1])) || Object.hasOwn(COMMANDS, key) && COMMANDS[key];
    if (!act) return;
    event.preventDefault();
    act();
  }
});
const leave = () => { hot = null; draw(); };
on($("cell"), "blur", leave);

function track(target, {grab, hover, drag, click}) { // a press is a click until the pointer has moved 5 px
  let press = null;
  on(target, "pointerdown", event => {
    press = {...grab(event), left: event.clientX, top: event.clientY};
    target.setPointerCapture(event.pointerId);
  });
  on(target, "pointermove", event => {
    if (!press) return hover(event);
    press.moved ||= Math.hypot(event.clientX - press.left, event.clientY - press.top) > 5;
    if (press.moved) drag(event, press);
  });
  on(target, "pointerup", event => {
    if (press && !press.moved) click(event, press);
    press = null;
  });
  on(target, "pointercancel", () => { press = null; });
}
const spotIn = (part, {clientX, clientY}) => new DOMPoint(clientX, clientY).matrixTransform(part.getScreenCTM().inverse());
const spotOf = event => spotIn(scenes.findLast(each => event.clientX >= each.getBoundingClientRect().left) ?? scenes[0], event);
const pointOf = event => toInput(spotOf(event).y, spotOf(event).x), sorted = (a, b) => a < b ? [a, b] : [b, a];
track(stage, {
  grab: event => ({from: pointOf(event), before: view, pan: event.shiftKey}),
  hover: event => S.region || moveTo(pointOf(event), false),
  drag(event, {from, before, pan, left, top}) {
    if (pan) {
      view = {...before, x: before.x - (event.clientX - left) * perPx(), y: before.y - (event.clientY - top) * perPx()};
      return draw();
    }
    const to = pointOf(event);
    S.region = [min, max].flatMap(end => both(k => end(from[k], to[k])));
    moveTo(both(k => (from[k] + to[k]) / 2));
  },
  click(event, {pan}) {
    if (pan) return;
    S.region = null;
    moveTo(pointOf(event));
    pin();
  },
});
on(stage, "pointerleave", event => event.buttons || moveTo(home));
on(stage, "wheel", event => {
  event.preventDefault();
  const {x, y} = spotOf(event), all = image().box, by = clamp(view.width * 1.15 ** Math.sign(event.deltaY), all.width / 40, all.width) / view.width;
  view = by * view.width >= all.width ? all : {x: x - (x - view.x) * by, y: y - (y - view.y) * by, width: view.width * by, height: view.height * by};
  draw();
}, {passive: false});
function point(event) {
  const spot = cellAt(event);
  hot = spot.inRows && spot.column !== undefined ? spot : null;
  draw();
  return spot;
}
track(cells, {
  grab: cellAt, hover: point,
  drag(event, {axis, layer, position, inRows}) {
    const spot = point(event);
    if (axis && inRows && spot.axis === axis) S.block = {axis, layers: sorted(layer, spot.layer), columns: sorted(position, spot.position)};
  },
  click(event, {layer, axis, position, column, isName, isHead}) {
    if (isName) return toLayer(layer);
    if (column === undefined) return;
    if (!isHead) cursor = {layer, axis, position};
    set({layer, column, block: null, path: isHead});
  },
});
on(cells, "pointerleave", leave);
function brushTo(event, {axis, bin}) {
  const [low, high] = sorted(bin, binOf(event).bin);
  set({brush: {axis, low, high}});
}
track($("bars"), {grab: binOf, hover() {}, drag: brushTo, click: brushTo});
