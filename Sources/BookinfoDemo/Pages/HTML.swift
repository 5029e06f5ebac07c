/// Text as HTML shows it: safe between tags and inside quoted attributes.
func escaped(_ text: String) -> String {
  var html = ""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "&": html += "&amp;"
    case "<": html += "&lt;"
    case ">": html += "&gt;"
    case "\"": html += "&#34;"
    case "'": html += "&#39;"
    default: html.unicodeScalars.append(scalar)
    }
  }
  return html
}

/// The frame of every page: head, navigation bar and footer around `main`.
func document(navigation: String, main: String) -> String {
  """
  <!DOCTYPE html>
  <html lang="en">
  <head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <meta name="color-scheme" content="light dark">
  <title>Simple Bookstore App</title>
  <link rel="icon" type="image/svg+xml" href="static/icon.svg">
  <link rel="stylesheet" href="static/bookstore.css">
  </head>
  <body>
  <header class="bar">
  <div class="bar-inner">
  <a class="brand" href="productpage"><img src="static/icon.svg" alt="" width="28" height="28">BookInfo</a>
  \(navigation)
  </div>
  </header>
  <main>
  \(main)
  </main>
  <footer>One page, four services: each part of it was asked for over the network.</footer>
  </body>
  </html>

  """
}
