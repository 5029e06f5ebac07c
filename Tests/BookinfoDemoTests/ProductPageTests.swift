import HTTPCodec
import Testing

@testable import BookinfoDemo

/// What details and reviews answer in the tests of the page.
private let details = Details.book(id: .integer(0)).text()

private func reviews(_ first: String = "", _ second: String = "", cluster: String = "null") -> String {
  #"{"id": "0","podname": "pod-1","clustername": "\#(cluster)","reviews": [{"reviewer": "Reviewer1","text": "\#(Reviews.texts[0])"\#(first)},"#
    + #"{"reviewer": "Reviewer2","text": "\#(Reviews.texts[1])"\#(second)}]}"#
}

private func stars(_ count: Int, _ color: String) -> String { #","rating": {"stars": \#(count), "color": "\#(color)"}"# }

private let ratingsBad = #","rating": {"error": "Ratings service is currently unavailable"}"#

private func shop(_ environment: [String: String] = [:], _ backend: ScriptedBackend) throws -> ProductPage {
  try ProductPage(environment: Environment(environment), backend: backend, signer: SessionSigner(secret: "test"))
}

private func backend(details: BackendAnswer = .ok(details), reviews: BackendAnswer = .ok(reviews())) -> ScriptedBackend {
  ScriptedBackend { $0.host == "details" ? details : reviews }
}

private func cookie(_ user: String) -> HTTPField {
  HTTPField("cookie", "theme=dark; session=\(SessionSigner(secret: "test").cookie(for: user))")
}

private func count(_ part: String, in text: String) -> Int {
  var count = 0
  var rest = text.utf8[...]
  while let start = rest.firstIndex(of: part.utf8.first ?? 0) {
    rest = rest[start...]
    if rest.starts(with: part.utf8) { count += 1 }
    rest = rest.dropFirst()
  }
  return count
}

@Suite struct PageStateTests {
  struct State: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var details = BackendAnswer.ok(BookinfoDemoTests.details)
    var reviews = BackendAnswer.ok(BookinfoDemoTests.reviews())
    var user: String?
    var present: [String]
    var absent: [String]
    var counts: [String: Int] = [:]
  }

  static let states = [
    State(testDescription: "signed out", present: [#"id="sign-in-button""#], absent: ["Sign out"]),
    State(
      testDescription: "signed in as jason", user: "jason", present: ["jason", "Sign out", #"href="logout""#],
      absent: [#"id="sign-in-button""#]),
    State(
      testDescription: "details good",
      present: ["Book Details", "1234567890", "PublisherA", "200", "paperback", "English"],
      absent: ["Error fetching product details"]),
    State(
      testDescription: "details bad", details: BackendAnswer(status: 503, body: []),
      present: ["Error fetching product details", "Sorry, product details are currently unavailable for this book."],
      absent: ["Book Details"]),
    State(
      testDescription: "reviews v1",
      present: ["Book Reviews", "Reviewer1", "Reviewer2", "Reviews served by:", "pod-1"] + Reviews.texts,
      absent: ["glyphicon-star", "on cluster"]),
    State(
      testDescription: "reviews v2", reviews: .ok(BookinfoDemoTests.reviews(stars(5, "black"), stars(4, "black"))), present: [],
      absent: ["text-red-500"],
      counts: [
        "flex gap-x-1 text-black-500": 2, "text-black-500": 2, #"id="glyphicon glyphicon-star""#: 9,
        "glyphicon-star-empty": 1,
      ]),
    State(
      testDescription: "reviews v3", reviews: .ok(BookinfoDemoTests.reviews(stars(5, "red"), stars(4, "red"))), present: [],
      absent: ["text-black-500"],
      counts: ["flex gap-x-1 text-red-500": 2, #"id="glyphicon glyphicon-star""#: 9, "glyphicon-star-empty": 1]),
    State(
      testDescription: "ratings bad", reviews: .ok(BookinfoDemoTests.reviews(ratingsBad, ratingsBad)), present: Reviews.texts,
      absent: ["glyphicon-star"],
      counts: [#"<p class="text-red-500">Ratings service is currently unavailable</p>"#: 2]),
    State(
      testDescription: "zero stars", reviews: .ok(BookinfoDemoTests.reviews(stars(0, "red"), stars(0, "red"))),
      present: Reviews.texts, absent: ["glyphicon-star", "text-red-500"]),
    State(
      testDescription: "reviews bad", reviews: BackendAnswer(status: 500, body: []),
      present: ["Error fetching product reviews", "Sorry, product reviews are currently unavailable for this book."],
      absent: ["Book Reviews"]),
    State(
      testDescription: "cluster name set", reviews: .ok(BookinfoDemoTests.reviews(cluster: "east")),
      present: ["on cluster <div>east</div>"], absent: []),
  ]

  @Test(arguments: states) func `the page shows its state`(state: State) throws {
    let page = try shop([:], backend(details: state.details, reviews: state.reviews))
    let response = page.respond(to: .get("/productpage", headers: state.user.map { [cookie($0)] } ?? []))
    #expect(response.status == 200)
    for text in state.present + ["<title>Simple Bookstore App</title>", "The Comedy of Errors"] {
      #expect(response.text.contains(text), "\(text)")
    }
    for text in state.absent { #expect(!response.text.contains(text), "\(text)") }
    for (text, times) in state.counts { #expect(count(text, in: response.text) == times, "\(text)") }
  }

  @Test func `everything from outside is escaped`() throws {
    let script = "<script>alert('x')</script>"
    let hostile =
      #"{"podname": "\#(script)","clustername": "\#(script)","reviews": [{"reviewer": "\#(script)","text": "\#(script)","rating": {"error": "\#(script)"}}]}"#
    let page = try shop([:], backend(details: .ok(#"{"author": "\#(script)"}"#), reviews: .ok(hostile)))
    let text = page.respond(to: .get("/productpage", headers: [cookie(script)])).text
    #expect(!text.contains("<script"))
    #expect(text.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"))
    #expect(text.contains(#"<a href="https://en.wikipedia.org/wiki/The_Comedy_of_Errors">"#))
  }

  @Test func `absurd numbers of stars stay a row`() throws {
    let page = try shop([:], backend(reviews: .ok(reviews(stars(1_000_000_000, "red"), stars(-1, "red")))))
    #expect(count(#"id="glyphicon glyphicon-star""#, in: page.respond(to: .get("/productpage")).text) == 5)
  }
}

@Suite struct ProductPageTests {
  @Test func `the front page leads to two users`() throws {
    for path in ["/", "/index.html"] {
      let text = try shop([:], backend()).respond(to: .get(path)).text
      #expect(text.contains("Hello! This is a simple bookstore application consisting of three services as shown below"))
      #expect(text.contains(#"href="/productpage?u=normal">Normal user</a>"#))
      #expect(text.contains(#"href="/productpage?u=test">Test user</a>"#))
      #expect(text.contains("<table>"))
    }
  }

  @Test func `products and health are answered byte for byte`() throws {
    let page = try shop([:], backend())
    #expect(page.respond(to: .get("/health")).text == "Product page is healthy")
    let products = page.respond(to: .get("/api/v1/products"))
    #expect(products.header("content-type") == "application/json")
    #expect(
      products.text
        == #"[{"id": 0, "title": "The Comedy of Errors", "descriptionHtml": "<a href=\"https://en.wikipedia.org/wiki/The_Comedy_of_Errors\">Wikipedia Summary</a>: The Comedy of Errors is one of <b>William Shakespeare's</b> early plays. It is his shortest and one of his most farcical comedies, with a major part of the humour coming from slapstick and mistaken identity, in addition to puns and word play."}]"#
    )
  }

  @Test(arguments: [("", "details", 1), ("/reviews", "reviews", 2), ("/ratings", "ratings", 1)])
  func `the API passes on answers, statuses and apologies`(path: String, app: String, attempts: Int) throws {
    let good = ScriptedBackend { _ in .ok(#"{"id":0,"a":[1,2]}"#) }
    let page = try shop([:], good)
    let answer = page.respond(to: .get("/api/v1/products/7" + path))
    #expect(answer.status == 200)
    #expect(answer.text == #"{"id": 0, "a": [1, 2]}"#)
    #expect(good.received.map(\.target) == ["/\(app)/7"])
    #expect(good.received.first?.timeouts == .both(.seconds(3)))
    #expect(page.results.prometheusText.contains(#"request_result_total{destination_app="\#(app)",response_code="200"} 1.0"#))

    let bad = ScriptedBackend { _ in BackendAnswer(status: 555, body: []) }
    let failing = try shop([:], bad)
    let apology = failing.respond(to: .get("/api/v1/products/0" + path))
    #expect(apology.status == 555)
    #expect(apology.text == #"{"error": "Sorry, product \#(app) are currently unavailable for this book."}"#)
    #expect(bad.received.count == attempts)
    #expect(
      failing.results.prometheusText.contains(#"request_result_total{destination_app="\#(app)",response_code="555"} 1.0"#))

    let silent = ScriptedBackend { _ throws(CallError) in throw .timedOut("waiting") }
    #expect(try shop([:], silent).respond(to: .get("/api/v1/products/0" + path)).status == 500)
    #expect(silent.received.count == attempts)
  }

  @Test func `a second attempt at reviews can succeed`() throws {
    let first = ScriptedBackend { _ in .ok("") }
    let backend = ScriptedBackend { call in
      if first.received.isEmpty {
        _ = try? first.get(call)
        return BackendAnswer(status: 503, body: [])
      }
      return .ok(reviews())
    }
    #expect(try shop([:], backend).respond(to: .get("/api/v1/products/0/reviews")).status == 200)
    #expect(backend.received.count == 2)
  }

  @Test func `the page asks details, floods, then asks reviews`() throws {
    let backend = backend()
    _ = try shop(["FLOOD_FACTOR": "3"], backend).respond(to: .get("/productpage"))
    #expect(backend.received.map(\.target) == ["/details/0"] + Array(repeating: "/reviews/0", count: 4))
  }

  @Test func `metrics are in the order of app and code`() throws {
    let results = RequestResults()
    for (app, status) in [("reviews", 503), ("details", 200), ("reviews", 200), ("details", 200)] {
      results.count(app, status: status)
    }
    #expect(
      results.prometheusText == """
        # HELP request_result_total Results of requests
        # TYPE request_result_total counter
        request_result_total{destination_app="details",response_code="200"} 2.0
        request_result_total{destination_app="reviews",response_code="200"} 1.0
        request_result_total{destination_app="reviews",response_code="503"} 1.0

        """)
  }

  @Test(arguments: [
    "/static/nothing.css", "/staticx", "/productpagex", "/static/../productpage", "/api/v1/products/0/x", "/api",
  ])
  func `unknown paths are not found`(path: String) throws {
    #expect(try shop([:], backend()).respond(to: .get(path)).status == 404)
  }

  @Test func `static files have types and entity tags`() throws {
    let page = try shop([:], backend())
    let css = page.respond(to: .get("/static/bookstore.css"))
    #expect(css.status == 200)
    #expect(css.header("content-type") == "text/css; charset=utf-8")
    #expect(page.respond(to: .get("/static/icon.svg")).header("content-type") == "image/svg+xml")
    let tag = try #require(css.header("etag"))
    let again = page.respond(to: .get("/static/bookstore.css", headers: [HTTPField("if-none-match", tag)]))
    #expect(again.status == 304)
    #expect(again.body.isEmpty)
  }

  @Test func `other methods are not allowed`() throws {
    let page = try shop([:], backend())
    #expect(page.respond(to: .post("/productpage", "")).status == 405)
    #expect(page.respond(to: .get("/login")).status == 405)
  }
}

@Suite struct SessionTests {
  private let referer = HTTPField("referer", "http://shop.test/productpage?u=normal")

  @Test func `signing in sets a cookie that names the user, and leads back`() throws {
    let page = try shop([:], backend())
    let response = page.respond(to: .post("/login", "username=ja%73on+x&passwd=secret", headers: [referer]))
    #expect(response.status == 302)
    #expect(response.header("location") == referer.value)
    let cookie = try #require(response.header("set-cookie"))
    #expect(cookie.contains("; HttpOnly"))
    #expect(cookie.contains("; Path=/"))
    let value = cookie.dropFirst("session=".count).prefix { $0 != ";" }
    #expect(SessionSigner(secret: "test").user(fromCookie: value) == "jason x")
    #expect(SessionSigner(secret: "other").user(fromCookie: value) == nil)
  }

  @Test func `signing out removes the user; without a referer it leads to the page`() throws {
    let response = try shop([:], backend()).respond(to: .get("/logout", headers: [cookie("jason")]))
    #expect(response.status == 302)
    #expect(response.header("location") == "/productpage")
    #expect(response.header("set-cookie")?.hasPrefix("session=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0;") == true)
  }

  @Test(arguments: ["javascript:alert(1)", "http://x/ y", "ftp://x", ""])
  func `a referer that is no web address is not followed`(referer: String) throws {
    let response = try shop([:], backend()).respond(to: .get("/logout", headers: [HTTPField("referer", referer)]))
    #expect(response.header("location") == "/productpage")
  }

  @Test func `every changed byte of a cookie makes it worthless`() {
    let signer = SessionSigner(secret: "test")
    let cookie = Array(signer.cookie(for: "jason").utf8)
    #expect(signer.user(fromCookie: String(decoding: cookie, as: UTF8.self)) == "jason")
    for index in cookie.indices {
      for other in [UInt8(ascii: "A"), UInt8(ascii: "z"), UInt8(ascii: "."), UInt8(ascii: "=")] where cookie[index] != other {
        var changed = cookie
        changed[index] = other
        #expect(signer.user(fromCookie: String(decoding: changed, as: UTF8.self)) == nil)
      }
      #expect(signer.user(fromCookie: String(decoding: cookie.prefix(index), as: UTF8.self)) == nil)
    }
  }

  @Test func `names with control characters or without end are refused, blanks are trimmed`() throws {
    let page = try shop([:], backend())
    #expect(page.respond(to: .post("/login", "username=a%0d%0aend-user:+root")).status == 400)
    #expect(page.respond(to: .post("/login", "username=" + String(repeating: "x", count: 257))).status == 400)
    let trimmed = try #require(page.respond(to: .post("/login", "username=+jason++")).header("set-cookie"))
    #expect(SessionSigner(secret: "test").user(fromCookie: trimmed.dropFirst(8).prefix { $0 != ";" }) == "jason")
    #expect(page.respond(to: .post("/login", "username=")).header("set-cookie")?.hasPrefix("session=;") == true)
  }

  @Test(arguments: [[], [0], [0, 255], [1, 2, 3], [251, 239, 190, 255]] as [[UInt8]])
  func `base64url goes there and back`(bytes: [UInt8]) {
    #expect(Base64URL.decode(Base64URL.encode(bytes).utf8) == bytes)
  }

  @Test(arguments: ["A", "AA=", "A+==", "AB", "é"]) func `base64url has one text per value`(text: String) {
    #expect(Base64URL.decode(text.utf8) == nil)
  }
}

@Suite struct ForwardedHeadersTests {
  private static let all = (ForwardedHeaders.common + ForwardedHeaders.b3).filter { !$0.hasPrefix("x-b3") }.map {
    HTTPField($0, "v-\($0)")
  }
  private static let b3 = [
    HTTPField("x-b3-traceid", "463ac35c9f6413ad48485a3953bb6124"), HTTPField("x-b3-spanid", "a2fb4a1d1a96d312"),
    HTTPField("x-b3-parentspanid", "0020000000000001"), HTTPField("x-b3-sampled", "1"), HTTPField("x-b3-flags", "0"),
  ]
  private static let others = [HTTPField("accept", "x"), HTTPField("x-forwarded-for", "1.2.3.4"), HTTPField("host", "h")]
  private static let endUser = HTTPField("end-user", "jason")

  @Test func `details and reviews pass on the listed headers and end-user as received`() {
    let sent = ForwardedHeaders.fromService(Self.others + Self.all + Self.b3 + [Self.endUser])
    #expect(Set(sent) == Set(Self.all + Self.b3 + [Self.endUser]))
  }

  @Test func `productpage takes end-user from the session only`() {
    let signedOut = ForwardedHeaders.fromProductPage(Self.all + Self.b3 + [Self.endUser], user: nil)
    #expect(Set(signedOut) == Set(Self.all + [Self.b3[0], Self.b3[1], Self.b3[3]]))
    let signedIn = ForwardedHeaders.fromProductPage([Self.endUser], user: "lucy")
    #expect(signedIn == [HTTPField("end-user", "lucy")])
  }

  @Test(arguments: [
    ("40c7fdf104e3de67", "40c7fdf104e3de67", true), ("40c7", "40c7fdf104e3de67", false),
    ("40c7fdf104e3de6x", "40c7fdf104e3de67", false),
  ])
  func `productpage passes on B3 with well-formed ids`(trace: String, span: String, isPassed: Bool) {
    let incoming = [HTTPField("x-b3-traceid", trace), HTTPField("x-b3-spanid", span)]
    #expect(ForwardedHeaders.fromProductPage(incoming, user: nil) == (isPassed ? incoming : []))
  }

  @Test func `the page's calls carry the session's user`() throws {
    let backend = backend()
    _ = try shop([:], backend).respond(to: .get("/productpage", headers: [cookie("jason"), HTTPField("end-user", "root")]))
    #expect(backend.received.count == 2)
    for call in backend.received { #expect(call.headers.filter { $0.name == "end-user" } == [HTTPField("end-user", "jason")]) }
  }
}
