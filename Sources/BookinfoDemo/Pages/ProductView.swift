/// The product page as HTML, for what the backends answered.
struct ProductView {
  var user: String?
  var details: BackendResult
  var reviews: BackendResult

  var html: String {
    document(
      navigation: navigation,
      main: """
        <section class="hero">
        <div class="cover" aria-hidden="true"><span>William Shakespeare</span><b>The Comedy<br>of Errors</b><i></i></div>
        <div class="hero-text">
        <p class="eyebrow">Book of the day</p>
        <h1>\(escaped(Book.title))</h1>
        <p class="summary">\(Book.descriptionHTML)</p>
        </div>
        </section>
        <div class="columns">
        \(detailsSection)
        \(reviewsSection)
        </div>
        """)
  }

  // MARK: Signing in

  private var navigation: String {
    if let user {
      let initial = escaped(user.prefix(1).uppercased())
      return """
        <div class="visitor"><span class="avatar" aria-hidden="true">\(initial)</span><span class="name">\(escaped(user))</span>
        <a class="button quiet" href="logout">Sign out</a></div>
        """
    }
    return """
      <button class="button" id="sign-in-button" type="button" popovertarget="sign-in">Sign in</button>
      <div class="dialog" id="sign-in" popover role="dialog" aria-labelledby="sign-in-title">
      <h2 id="sign-in-title">Sign in to BookInfo</h2>
      <p>Any name will do; there is no password to remember.</p>
      <form method="post" action="login">
      <label for="username">Username</label>
      <input id="username" name="username" autocomplete="username" maxlength="64" required autofocus>
      <label for="passwd">Password</label>
      <input id="passwd" name="passwd" type="password" autocomplete="off">
      <div class="actions">
      <button class="button quiet" type="button" popovertarget="sign-in" popovertargetaction="hide">Cancel</button>
      <button class="button" type="submit">Sign in</button>
      </div>
      </form>
      </div>
      """
  }

  // MARK: Details

  private static let facts = [
    ("ISBN-10", "ISBN-10"), ("ISBN-13", "ISBN-13"), ("publisher", "Publisher"), ("pages", "Pages"), ("type", "Type"),
    ("year", "Year"), ("language", "Language"), ("author", "Author"),
  ]

  private var detailsSection: String {
    guard details.isGood else { return Self.failure("Error fetching product details", details) }
    let rows = Self.facts.compactMap { name, label -> String? in
      guard let value = details.document[name], value != .null else { return nil }
      return "<div><dt>\(label)</dt><dd>\(escaped(value.string ?? value.text()))</dd></div>"
    }
    return """
      <section class="card details">
      <h2>Book Details</h2>
      <dl>
      \(rows.joined(separator: "\n"))
      </dl>
      </section>
      """
  }

  private static func failure(_ title: String, _ result: BackendResult) -> String {
    """
    <section class="card failure" role="alert">
    <h2>\(title)</h2>
    <p>\(escaped(result.document["error"]?.string ?? ""))</p>
    </section>
    """
  }

  // MARK: Reviews

  private var reviewsSection: String {
    guard reviews.isGood else { return Self.failure("Error fetching product reviews", reviews) }
    let cards = (reviews.document["reviews"]?.elements ?? []).map(Self.card)
    return """
      <section class="reviews">
      <h2>Book Reviews</h2>
      \(cards.joined(separator: "\n"))
      <div class="served">Reviews served by: <div>\(escaped(Self.name("podname", reviews)))</div>\(cluster)</div>
      </section>
      """
  }

  private static func name(_ member: String, _ result: BackendResult) -> String {
    result.document[member]?.string ?? "null"
  }

  private var cluster: String {
    let name = Self.name("clustername", reviews)
    return name == "null" ? "" : " on cluster <div>\(escaped(name))</div>"
  }

  private static func card(_ review: JSON) -> String {
    let reviewer = escaped(review["reviewer"]?.string ?? "")
    return """
      <article class="card review">
      \(rating(review["rating"]))<blockquote>\(escaped(review["text"]?.string ?? ""))</blockquote>
      <p class="reviewer"><span class="avatar" aria-hidden="true">\(escaped(String(reviewer.suffix(1))))</span>\(reviewer)</p>
      </article>
      """
  }

  /// Stars, or why there are none; nothing for zero stars or a version that does not rate.
  private static func rating(_ rating: JSON?) -> String {
    if let stars = rating?["stars"]?.integer, stars > 0 {
      let filled = min(stars, starsMax)
      let color = escaped(rating?["color"]?.string ?? "black")
      return """
        <div class="rating"><div class="flex gap-x-1 text-\(color)-500" role="img" aria-label="\(filled) of \(starsMax) stars">
        \(String(repeating: filledStar, count: filled))\(String(repeating: outlineStar, count: starsMax - filled))</div></div>

        """
    }
    guard let error = rating?["error"]?.string else { return "" }
    return "<p class=\"text-red-500\">\(escaped(error))</p>\n"
  }

  private static let starsMax = 5

  /// Clients of Bookinfo look for this id text; as `data-id` it may stand more than once in valid HTML.
  private static let filledStar = star(dataID: "glyphicon glyphicon-star", fill: "currentColor")
  private static let outlineStar = star(dataID: "glyphicon glyphicon-star-empty", fill: "none")

  private static func star(dataID: String, fill: String) -> String {
    """
    <svg data-id="\(dataID)" viewBox="0 0 20 20" width="20" height="20" fill="\(fill)" stroke="currentColor" \
    stroke-width="1.2" stroke-linejoin="round"><path d="M10 1.8l2.5 5.2 5.7.8-4.1 4 1 5.7-5.1-2.7-5.1 2.7 1-5.7-4.1-4 5.7-.8z"/></svg>

    """
  }
}
