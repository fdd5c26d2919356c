/* Controls, and the start */
for (const id of ["model-label", "compare-label"]) $(id).hidden = !PAIR;
$("outlines-label").hidden = !D.images.some(each => each.outlines.length);
$("key-point").hidden = !D.sites.some(s => s.kind === "point");
$("thumbs").hidden = D.images.length < 2;
$("thumbs").append(...D.images.map((each, k) => {
  const name = short(each.name), button = make("button", {type: "button", title: name}, each.photo ? make("img", {src: each.photo, alt: name}) : name);
  on(button, "click", () => show({...S, image: k}));
  return button;
}));
for (const id of ["image", "model", "layer", "split"]) on($(id), "input", event => show({...S, [id]: +event.target.value}));
for (const id of ["axis", "unit", "order", "compare"]) on($(id), "input", event => show({...S, [id]: event.target.value}));
for (const id of ["lines", "outlines"]) on($(id), "input", draw);
on($("table"), "toggle", draw);
on($("help-button"), "click", COMMANDS["?"]);
on(matchMedia("(prefers-color-scheme: dark)"), "change", draw);
on(calm, "change", blink);
on(window, "resize", draw);
on(window, "hashchange", () => location.hash !== written && go(location.hash));
window.atmviz = {get state() { return structuredClone(S); }, go, readout};
go(location.hash).catch(error => { $("read").textContent = `this browser cannot draw the page: ${error}`; });
