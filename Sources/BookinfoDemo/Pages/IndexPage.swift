/// The page at `/`: what the application consists of, and the way in.
enum IndexPage {
  private static let services = [
    ("productpage", "draws the page", "details, reviews"),
    ("details", "knows the facts about the book", "none"),
    ("reviews", "keeps what readers wrote", "ratings"),
    ("ratings", "counts the stars", "none"),
  ]

  static let html: String = {
    let rows = services.map { name, duty, calls in
      "<tr><th scope=\"row\">\(name)</th><td>\(duty)</td><td>\(calls)</td></tr>"
    }
    return document(
      navigation: "",
      main: """
        <section class="card intro">
        <h1>BookInfo</h1>
        <p>Hello! This is a simple bookstore application consisting of three services as shown below</p>
        <table>
        <thead><tr><th scope="col">Service</th><th scope="col">What it does</th><th scope="col">Calls</th></tr></thead>
        <tbody>
        \(rows.joined(separator: "\n"))
        </tbody>
        </table>
        <p>Click on one of the links below to open the page as</p>
        <p class="actions"><a class="button" href="/productpage?u=normal">Normal user</a>
        <a class="button quiet" href="/productpage?u=test">Test user</a></p>
        </section>
        """)
  }()
}
