// Draw the diagrams of a page, in the colours of its theme. The library is loaded only by pages that have diagrams.
addEventListener("DOMContentLoaded", () => {
  const here = new URL("mermaid.tiny.js", document.querySelector("script[src*='diagrams.js']").src);
  const blocks = [...document.querySelectorAll(".highlight-mermaid")];
  if (!blocks.length) return;
  const diagrams = blocks.map((block) => {
    const text = block.querySelector("pre").textContent;
    const figure = document.createElement("figure");
    figure.className = "diagram";
    block.replaceWith(figure);
    return { text, figure };
  });

  async function draw() {
    const chosen = document.body.dataset.theme;
    const dark = chosen === "dark" || (chosen !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
    const sequence = { wrap: true, actorMargin: 20, width: 150 }; // so that a diagram is narrow enough to be read
    mermaid.initialize({ startOnLoad: false, theme: dark ? "dark" : "default", sequence });
    for (const [number, { text, figure }] of diagrams.entries()) {
      figure.innerHTML = (await mermaid.render(`diagram-${number}`, text)).svg;
    }
  }

  const library = document.createElement("script");
  library.src = here;
  library.onload = () => {
    draw();
    new MutationObserver(draw).observe(document.body, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  };
  document.head.append(library);
});
