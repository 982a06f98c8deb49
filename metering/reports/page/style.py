"""The style of a usage page: light and dark, on a screen of any width and on paper."""

STYLE = """
:root{color-scheme:light dark;--ink:#16202c;--soft:#5b6878;--line:#dde3ea;--paper:#fff;--panel:#f6f8fa;--bar:#2563b0;
--well:#1a7f4b;--late:#a15c00}
@media (prefers-color-scheme:dark){:root{--ink:#e6ebf1;--soft:#9aa7b6;--line:#2d3846;--paper:#11171f;--panel:#18212c;
--bar:#6aa7f0;--well:#57c48c;--late:#e0a24a}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif}
main{max-width:1000px;margin:0 auto;padding:32px 24px 48px}
h1{font-size:26px;line-height:1.2;margin:0 0 4px}
h2{font-size:17px;margin:36px 0 8px}
p{margin:4px 0}
.soft{color:var(--soft)}
.big{font-size:40px;font-weight:650;line-height:1.15;margin:20px 0 0;letter-spacing:-.01em}
.facts{display:flex;flex-wrap:wrap;gap:12px;margin-top:20px}
.fact{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:10px 14px;flex:1 1 200px}
.fact b{display:block}
.well{color:var(--well)}
.late{color:var(--late)}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:5px 10px;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{color:var(--soft);font-weight:600}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.wide{white-space:normal}
td.exact{white-space:normal;overflow-wrap:anywhere;min-width:8em}
.code{font-size:11px;overflow-wrap:anywhere}
tfoot td{font-weight:650}
.heat td.n{border:1px solid var(--paper)}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--soft);font-size:11px;font-family:inherit}
svg .grid{stroke:var(--line)}
svg .bar{fill:var(--bar)}
pre{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:12px;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:13px}
@media print{:root{--ink:#000;--soft:#444;--line:#ccc;--paper:#fff;--panel:#fff;--bar:#2563b0;color-scheme:light}
main{padding:0;max-width:none}h2{break-after:avoid}tr,svg,.fact{break-inside:avoid}.scroll{overflow:visible}
body{font-size:12px;-webkit-print-color-adjust:exact;print-color-adjust:exact}}
"""
