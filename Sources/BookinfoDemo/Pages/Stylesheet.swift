/// How the pages look: one column on a phone, two on a desk, light or dark as the visitor's system is.
enum Stylesheet {
  static let text = """
    :root {
      color-scheme: light dark;
      --paper: #f7f6f3; --card: #ffffff; --ink: #1c1917; --soft: #57534e; --line: #e7e5e4;
      --accent: #4338ca; --accent-ink: #ffffff; --accent-soft: #eef2ff; --accent-text: #4338ca;
      --black-star: #1c1917; --red: #dc2626; --red-soft: #fef2f2; --red-line: #fecaca;
      --shadow: 0 1px 2px rgb(28 25 23 / .05), 0 8px 24px rgb(28 25 23 / .06);
      --serif: "Iowan Old Style", "Palatino Linotype", Palatino, "Book Antiqua", "Noto Serif", Georgia, serif;
      --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", sans-serif;
    }
    @media (prefers-color-scheme: dark) {
      :root {
        --paper: #141312; --card: #1f1d1b; --ink: #f5f5f4; --soft: #b5afa8; --line: #34302d;
        --accent: #6366f1; --accent-soft: #27264a; --accent-text: #a5b4fc;
        --red: #f87171; --red-soft: #2d1717; --red-line: #5f2323;
        --shadow: 0 1px 2px rgb(0 0 0 / .4);
      }
    }
    * { box-sizing: border-box; }
    body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.6 var(--sans); }
    a { color: var(--accent-text); text-underline-offset: 3px; }
    h1, h2 { font-family: var(--serif); line-height: 1.15; letter-spacing: -.01em; margin: 0; font-weight: 600; }
    h1 { font-size: clamp(2.1rem, 5vw, 3.25rem); }
    h2 { font-size: 1.4rem; }
    p { margin: 0; }
    main, .bar-inner { max-width: 68rem; margin: 0 auto; padding: 0 1.25rem; }

    .bar { background: var(--card); border-bottom: 1px solid var(--line); }
    .bar-inner { display: flex; align-items: center; justify-content: space-between; min-height: 4rem; gap: 1rem; }
    .brand { display: flex; align-items: center; gap: .65rem; color: inherit; text-decoration: none;
      font: 600 1.2rem var(--serif); }
    .visitor { display: flex; align-items: center; gap: .65rem; min-width: 0; }
    .visitor .name { font-weight: 600; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
    .avatar { flex: none; display: inline-grid; place-items: center; width: 2rem; height: 2rem; border-radius: 50%;
      background: var(--accent-soft); color: var(--accent-text); font: 600 .85rem var(--sans); }

    .button { display: inline-block; white-space: nowrap; font: 600 .925rem/1 var(--sans); padding: .7rem 1.1rem;
      border-radius: .6rem; border: 1px solid transparent; background: var(--accent); color: var(--accent-ink);
      text-decoration: none; cursor: pointer; }
    .button:hover { filter: brightness(1.1); }
    .button.quiet { background: transparent; border-color: var(--line); color: inherit; }
    :focus-visible { outline: 3px solid var(--accent-text); outline-offset: 2px; }

    .dialog { width: min(24rem, calc(100vw - 2rem)); padding: 1.75rem; border: 1px solid var(--line); border-radius: 1rem;
      background: var(--card); color: var(--ink); box-shadow: 0 24px 64px rgb(0 0 0 / .3); }
    .dialog::backdrop { background: rgb(15 14 13 / .5); backdrop-filter: blur(2px); }
    .dialog p { color: var(--soft); margin-top: .5rem; font-size: .925rem; }
    .dialog label { display: block; margin: 1rem 0 .35rem; font-weight: 600; font-size: .9rem; }
    .dialog input { width: 100%; padding: .65rem .8rem; font: inherit; color: inherit; background: var(--paper);
      border: 1px solid var(--line); border-radius: .6rem; }
    .actions { display: flex; flex-wrap: wrap; gap: .75rem; margin-top: 1.5rem; }
    .dialog .actions { justify-content: flex-end; }

    .hero { display: grid; gap: 2rem; padding: 3rem 0; align-items: center; }
    .eyebrow { font-size: .8rem; font-weight: 700; letter-spacing: .12em; text-transform: uppercase;
      color: var(--accent-text); margin-bottom: .75rem; }
    .summary { margin-top: 1.1rem; max-width: 42rem; color: var(--soft); font-size: 1.075rem; }
    .summary b { color: var(--ink); }
    .cover { position: relative; width: 11.5rem; aspect-ratio: 2 / 3; padding: 1.4rem 1.2rem 1.2rem 1.7rem;
      display: flex; flex-direction: column; justify-content: space-between; color: #fef3c7; overflow: hidden;
      border-radius: .25rem .6rem .6rem .25rem; font-family: var(--serif);
      background: linear-gradient(90deg, rgb(0 0 0 / .35) 0 .3rem, rgb(255 255 255 / .14) .3rem .4rem, transparent .9rem),
        linear-gradient(160deg, #4f46e5, #312e81 65%, #1e1b4b);
      box-shadow: 0 1px 2px rgb(0 0 0 / .3), 0 18px 40px rgb(30 27 75 / .35); }
    .cover span { font-size: .78rem; letter-spacing: .04em; opacity: .9; }
    .cover b { font-size: 1.45rem; line-height: 1.15; font-weight: 600; }
    .cover i { width: 4.4rem; height: 4.4rem; align-self: flex-end; border-radius: 50%; background: #fbbf24;
      box-shadow: -2rem 0 0 -.001rem rgb(248 113 113 / .85); mix-blend-mode: screen; }

    .columns { display: grid; gap: 2rem; padding-bottom: 3rem; align-items: start; }
    .card { background: var(--card); border: 1px solid var(--line); border-radius: 1rem; padding: 1.5rem;
      box-shadow: var(--shadow); min-width: 0; }
    .details dl { margin: 1rem 0 0; }
    .details dl div { display: flex; justify-content: space-between; gap: 1rem; padding: .6rem 0;
      border-top: 1px solid var(--line); }
    .details dl div:last-child { padding-bottom: 0; }
    .details dt { color: var(--soft); }
    .details dd { margin: 0; font-weight: 600; text-align: right; overflow-wrap: anywhere; }
    .reviews { display: grid; gap: 1.25rem; min-width: 0; }
    .review blockquote { margin: 0; font: 1.2rem/1.55 var(--serif); overflow-wrap: anywhere; }
    .reviewer { display: flex; align-items: center; gap: .65rem; margin-top: 1.1rem; color: var(--soft); font-weight: 600;
      font-size: .925rem; }
    .rating { margin-bottom: .9rem; }
    .flex { display: inline-flex; }
    .gap-x-1 { column-gap: .25rem; }
    .flex svg { display: block; }
    .text-black-500 { color: var(--black-star); }
    .text-red-500 { color: var(--red); }
    .text-blue-500 { color: #3b82f6; }
    .text-green-500 { color: #22c55e; }
    .text-yellow-500, .text-gold-500, .text-orange-500 { color: #f59e0b; }
    p.text-red-500 { display: inline-block; margin-bottom: .9rem; padding: .3rem .75rem; border-radius: 99rem;
      background: var(--red-soft); border: 1px solid var(--red-line); font-size: .875rem; font-weight: 600; }
    .served { color: var(--soft); font-size: .875rem; }
    .served div { display: inline-block; padding: 0 .45rem; border-radius: .35rem; background: var(--card);
      border: 1px solid var(--line); font: .8rem/1.6 ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace;
      overflow-wrap: anywhere; }
    .failure { background: var(--red-soft); border-color: var(--red-line); box-shadow: none; }
    .failure h2 { color: var(--red); font-size: 1.2rem; }
    .failure p { margin-top: .5rem; }

    .intro { max-width: 44rem; margin: 3rem auto; }
    .intro p { margin-top: 1.25rem; }
    table { width: 100%; margin-top: 1.25rem; border-collapse: collapse; }
    th, td { padding: .6rem .75rem .6rem 0; border-top: 1px solid var(--line); text-align: left; }
    thead th { border: 0; color: var(--soft); font-size: .875rem; }
    footer { padding: 1.5rem 1.25rem 2.5rem; text-align: center; color: var(--soft); font-size: .875rem; }

    @media (min-width: 46rem) {
      .hero { grid-template-columns: auto 1fr; gap: 3rem; padding: 3.5rem 0; }
      .columns { grid-template-columns: minmax(17rem, 1fr) 2fr; }
    }
    @media (prefers-color-scheme: dark) {
      .text-black-500 { padding: .25rem .6rem; border-radius: 99rem; background: #e7e5e4; }
    }

    """
}
