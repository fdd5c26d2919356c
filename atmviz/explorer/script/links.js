/* Links: each part is read as numbers in their range or as known words; others are named and left out */
const CHOSEN = {a: "axis", u: "unit", o: "order", cmp: "compare", by: "weight", pal: "palette"};
let written = "", hashed = 0;
function link() {
  const q = point => query(S.layer, point).join(), flat = value => value && Object.values(value).flat().join(), usual = start();
  const parts = {v: 1, i: S.image, l: site().name, q: q(here()), c: S.column, w: S.compare === "split" ? S.split : "", m: S.model, p: S.pins.map(q).join(";"),
    r: S.region?.map(round).join(), b: flat(S.brush), s: flat(S.block), path: S.path ? 1 : ""};
  for (const key in CHOSEN) if (key.length === 1 || S[CHOSEN[key]] !== usual[CHOSEN[key]]) parts[key] = S[CHOSEN[key]];
  return `#${Object.entries(parts).filter(([, value]) => (value ?? "") !== "").map(([key, value]) => `${key}=${String(value).replace("%", "%25")}`).join("&")}`;
}
function read(hash) { // a state, and the parts that do not fit
  const said = new URLSearchParams(String(hash).replace(/^#/, "")), next = start(), wrong = new Set(said.keys()), any = Infinity;
  const take = (key, kinds, use, text = said.get(key) ?? "") => { // kinds: words, or a number's limit
    const parts = text.split(","), fits = (part, kind) => kind.includes?.(part) ?? (/^-?\d{1,5}$/.test(part) && (kind === any || part >= 0 && part < kind));
    if (parts.length === kinds.length && kinds.every((kind, k) => fits(parts[k], kind))) {
      wrong.delete(key);
      use(...parts.map((part, k) => kinds[k].includes ? part : +part));
    }
  };
  take("v", [["1"]], () => {
    take("l", [NAMES], name => { next.layer = NAMES.indexOf(name); });
    for (const [key, name, limit] of [["i", "image", D.images.length], ["m", "model", D.models.length], ["c", "column", widest], ["w", "split", 101]])
      take(key, [limit], value => { next[name] = value; });
    for (const key in CHOSEN) take(key, [choices(CHOSEN[key])], word => { next[CHOSEN[key]] = word; });
    const {grid} = site(next.layer);
    take("q", grid, (...q) => { [next.y, next.x] = middle(next.layer, ...q); });
    for (const text of said.get("p")?.split(";").slice(0, 4) ?? []) take("p", grid, (...q) => next.pins.push(middle(next.layer, ...q)), text);
    take("path", [["1"]], () => { next.path = true; });
    take("r", [any, any, any, any], (...region) => { next.region = region; });
    take("b", [["h", "v"], any, any], (axis, low, high) => { next.brush = {axis, low, high}; });
    take("s", [["h", "v"], LAST + 1, LAST + 1, widest, widest], (axis, from, to, first, last) => {
      if (from <= to && first <= last) next.block = {axis, layers: [from, to], columns: [first, last]}; else wrong.add("s");
    });
  });
  return [next, [...wrong].map(key => `${key}=${short(said.get(key), 20)}`).join(", ")];
}
async function go(hash) {
  const [next, wrong] = read(hash);
  $("notice").textContent = wrong && `Not on this page, and left out of the link: ${short(wrong, 120)}`;
  await show(next);
  return readout();
}
function remember() { // browsers limit how often an address may change
  clearTimeout(hashed);
  hashed = setTimeout(() => {
    written = link();
    try { history.replaceState(null, "", written); } catch { /* in the frame of a notebook there is no address */ }
  }, 300);
}
