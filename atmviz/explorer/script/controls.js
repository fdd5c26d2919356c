/* Controls, and the start */
$("thumbs").append(...D.images.map((each, k) => {
  const {title, photo} = each, button = make("button", {type: "button", title}, photo ? make("img", {src: photo, alt: title}) : title);
  on(button, "click", () => show({...S, image: k}));
  return button;
}));
const INPUTS = {other: value => set({model: 1 - value}), find: text => text && find(text.trim()), lines: draw, outlines: draw};
on(document, "input", ({target: {id, value}}) => id in INPUTS ? INPUTS[id](value) : id in S && show({...S, [id]: value && isFinite(value) ? +value : value}));
on($("table"), "toggle", draw);
on($("help-button"), "click", COMMANDS["?"]);
on(matchMedia("(prefers-color-scheme: dark)"), "change", draw);
on(calm, "change", blink);
on(window, "resize", draw);
on(window, "hashchange", () => location.hash !== written && go(location.hash));
window.atmviz = {get state() { return structuredClone(S); }, go, readout};
go(location.hash).catch(error => { $("read").textContent = `this browser cannot draw the page: ${error}`; });
