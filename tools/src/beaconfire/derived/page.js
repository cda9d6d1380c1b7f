const search = document.getElementById("search");
const none = document.getElementById("none");
const rows = [...document.querySelectorAll("[data-words]")];
const groups = [...document.querySelectorAll("nav details, main section")];

function show() {
  const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let found = 0;
  for (const row of rows) {
    row.hidden = !wanted.every((word) => row.dataset.words.includes(word));
    if (!row.hidden && row.localName === "article") found += 1;
  }
  for (const group of groups) {
    group.hidden = [...group.querySelectorAll("[data-words]")].every((row) => row.hidden);
  }
  none.hidden = found > 0;
  if (wanted.length) document.querySelector("article:not([hidden])")?.scrollIntoView({ behavior: "instant" });
}

search.addEventListener("input", show);
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== search) {
    event.preventDefault();
    search.focus();
  }
  if (event.key === "Escape" && document.activeElement === search) {
    search.value = "";
    show();
    search.blur();
  }
});

// A link to an event that the search has hidden shows everything again.
addEventListener("hashchange", () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target?.hidden) {
    search.value = "";
    show();
    target.scrollIntoView();
  }
});

document.getElementById("theme").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const root = document.documentElement;
  const now = root.dataset.theme ?? (dark ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
});

const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-10% 0px -80% 0px" },
);
for (const article of document.querySelectorAll("article")) seen.observe(article);
