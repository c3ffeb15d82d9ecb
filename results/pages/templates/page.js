"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const show = (element) => element && element.removeAttribute("hidden");

  // Theme: the system's, unless #dark, #light, the button, or an earlier visit says otherwise. Storage may be denied.
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const remembered = () => { try { return localStorage.getItem("equipoise-theme"); } catch { return null; } };
  const remember = (theme) => { try { localStorage.setItem("equipoise-theme", theme); } catch { /* for this visit only */ } };
  const current = () => root.dataset.theme || (system.matches ? "dark" : "light");
  const other = () => (current() === "dark" ? "light" : "dark");
  const name = () => { $("theme").textContent = other() === "dark" ? "Dark theme" : "Light theme"; };
  const wear = (theme) => { if (theme === "dark" || theme === "light") root.dataset.theme = theme; name(); };
  wear(remembered());
  wear(location.hash.slice(1));
  system.addEventListener("change", name);
  $("theme").addEventListener("click", () => { remember(other()); wear(other()); });
  show($("theme"));

  // Sorting: a button in every heading of the board; what is missing stays last in either direction.
  const board = $("board");
  if (board) {
    const body = board.tBodies[0];
    const heads = [...board.tHead.rows[0].cells];
    const value = (row, column) => row.cells[column].dataset.v;
    const compare = (a, b) => (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
    const sort = (column, direction) => {
      const rows = [...body.rows].filter((row) => row.dataset.task !== undefined);
      rows.sort((one, two) => {
        const [a, b] = [value(one, column), value(two, column)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return direction * compare(a, b);
      });
      body.append(...rows);
      heads.forEach((head, i) => (i === column ? head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending") : head.removeAttribute("aria-sort")));
    };
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => sort(column, head.getAttribute("aria-sort") === "ascending" ? -1 : 1));
    });

    const fields = ["find", "task", "verdict"].map($).filter(Boolean);
    const wanted = (id) => ($(id) ? $(id).value : "");
    const filter = () => {
      const words = wanted("find").toLowerCase().split(/\s+/).filter(Boolean);
      const rows = [...body.rows];
      let shown = 0;
      for (const row of rows) {
        const { text, task, verdict } = row.dataset;
        const fits = words.every((word) => text.includes(word)) && (!wanted("task") || task === wanted("task")) && (!wanted("verdict") || verdict === wanted("verdict"));
        row.hidden = !fits;
        shown += fits;
      }
      $("count").textContent = shown === rows.length ? `${rows.length} rows` : `${shown} of ${rows.length} rows`;
    };
    fields.forEach((field) => field.addEventListener("input", filter));
    $("controls").addEventListener("submit", (event) => event.preventDefault());
    show($("controls"));
    filter();
  }

  // Details: every row links to its dialog, so that the address of an open one can be passed on.
  const open = () => {
    const target = location.hash.length > 1 && $(decodeURIComponent(location.hash.slice(1)));
    all("dialog[open]").forEach((dialog) => dialog !== target && dialog.close());
    if (target instanceof HTMLDialogElement && !target.open) target.showModal();
    if (target instanceof HTMLDetailsElement) target.open = true;
  };
  all("dialog").forEach((dialog) => {
    dialog.addEventListener("close", () => {
      if (location.hash === `#${dialog.id}`) history.replaceState(null, "", location.pathname + location.search);
    });
    dialog.addEventListener("click", (event) => { if (event.target === dialog || event.target.closest("[data-close]")) dialog.close(); });
  });
  all('a[aria-haspopup="dialog"]').forEach((link) => link.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return;
    event.preventDefault();
    history.replaceState(null, "", link.hash);
    open();
  }));
  addEventListener("hashchange", () => { wear(location.hash.slice(1)); open(); });
  open();

  // The figures' key: choose strategies, and the others step back.
  const figures = $("figures");
  all("#key button").forEach((button) => button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
    const chosen = all('#key button[aria-pressed="true"]').map((chip) => chip.dataset.arm);
    figures.classList.toggle("focus", chosen.length > 0);
    all('.plot [class^="arm-"]', figures).forEach((part) => part.classList.toggle("on", chosen.includes(part.classList[0])));
  }));

  // Copying and saving, where the browser can.
  if (navigator.clipboard) all("[data-copy]").forEach((button) => {
    show(button);
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.previousElementSibling.textContent);
      button.textContent = "Copied";
    });
  });
  all("[data-save]").forEach((button) => {
    show(button);
    button.addEventListener("click", () => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([$("data").textContent], { type: "application/json" }));
      link.download = button.dataset.save;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  });
  addEventListener("beforeprint", () => all("details").forEach((details) => { details.open = true; }));
})();
