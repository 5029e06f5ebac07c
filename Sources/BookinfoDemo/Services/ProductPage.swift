import HTTPCodec
import Primitives

/// The page of the book shop: asks details and reviews, and shows what it got.
struct ProductPage: Service {
  let details: ServiceAddress
  let reviews: ServiceAddress
  let ratings: ServiceAddress
  let floodFactor: Int
  let signer: SessionSigner
  let timeouts: CallTimeouts
  let backend: any Backend
  let results = RequestResults()

  /// A deliberate bug of Bookinfo: shorter than what reviews allows ratings, and reviews is tried twice.
  static let timeouts = CallTimeouts.both(.seconds(3))

  init(
    environment: Environment, backend: any Backend, signer: SessionSigner, timeouts: CallTimeouts = ProductPage.timeouts
  ) throws(UsageError) {
    details = try ServiceAddress(of: "details", in: environment)
    reviews = try ServiceAddress(of: "reviews", in: environment)
    ratings = try ServiceAddress(of: "ratings", in: environment)
    floodFactor = try Self.floodFactor(environment)
    self.signer = signer
    self.timeouts = timeouts
    self.backend = backend
  }

  private static func floodFactor(_ environment: Environment) throws(UsageError) -> Int {
    guard let text = environment.nonEmpty("FLOOD_FACTOR") else { return 0 }
    guard let factor = parseDecimal(text.utf8, max: UInt64(Limits.floodFactor)) else {
      throw UsageError("FLOOD_FACTOR='\(text)' is not a number from 0 to \(Limits.floodFactor)")
    }
    return Int(factor)
  }

  func respond(to request: HTTPRequest) -> HTTPResponse {
    let segments = request.path.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
    if request.path == "/login" { return request.method == "POST" ? logIn(request) : .methodNotAllowed(allow: "POST") }
    guard let answer = route(Array(segments)) else { return .notFound }
    guard request.isRead else { return .methodNotAllowed(allow: "GET, HEAD") }
    return answer(request)
  }

  private func route(_ segments: [Substring]) -> ((HTTPRequest) -> HTTPResponse)? {
    switch segments {
    case [""], ["index.html"]: { _ in .page(IndexPage.html) }
    case ["health"]: { _ in HTTPResponse(status: 200, text: "Product page is healthy", type: "text/html; charset=utf-8") }
    case ["logout"]: logOut
    case ["productpage"]: page
    case ["metrics"]:
      { _ in HTTPResponse(status: 200, text: results.prometheusText, type: "text/plain; version=0.0.4; charset=utf-8") }
    case ["api", "v1", "products"]: { _ in .json(200, Book.products, .spaced) }
    case _ where segments.starts(with: ["api", "v1", "products"]): product(segments.dropFirst(3))
    case _ where segments.first == "static": StaticFile.named(segments.dropFirst().joined(separator: "/")).map { $0.answer }
    default: nil
    }
  }

  private func product(_ segments: ArraySlice<Substring>) -> ((HTTPRequest) -> HTTPResponse)? {
    guard let id = segments.first, !id.isEmpty, segments.count <= 2 else { return nil }
    let product = String(id)
    switch segments.dropFirst().first {
    case nil: return { api(getDetails(product, forwarded($0))) }
    case "reviews": return { api(getReviews(product, forwarded($0))) }
    case "ratings": return { api(getRatings(product, forwarded($0))) }
    default: return nil
    }
  }

  private func forwarded(_ request: HTTPRequest) -> [HTTPField] {
    ForwardedHeaders.fromProductPage(request.headers, user: signer.user(of: request.headers))
  }

  private func api(_ result: BackendResult) -> HTTPResponse { .json(result.status, result.document, .spaced) }
}

// MARK: - Backends

/// The status a backend call ended with, and its document: the answer's, or an apology.
struct BackendResult: Hashable, Sendable {
  var status: Int
  var document: JSON
  var isGood: Bool { status == 200 }
}

extension ProductPage {
  func getDetails(_ product: String, _ headers: [HTTPField]) -> BackendResult {
    get("details", from: details, target: "/details/\(product)", headers: headers, attempts: 1)
  }

  func getReviews(_ product: String, _ headers: [HTTPField]) -> BackendResult {
    get("reviews", from: reviews, target: "/reviews/\(product)", headers: headers, attempts: 2)
  }

  func getRatings(_ product: String, _ headers: [HTTPField]) -> BackendResult {
    get("ratings", from: ratings, target: "/ratings/\(product)", headers: headers, attempts: 1)
  }

  /// Counted once, with the status of the last attempt; no answer at all is 500.
  private func get(
    _ app: String, from address: ServiceAddress, target: String, headers: [HTTPField], attempts: Int
  ) -> BackendResult {
    let call = BackendCall(host: address.host, port: address.port, target: target, headers: headers, timeouts: timeouts)
    let apology: JSON = [
      "error": .string("Sorry, product \(app) are currently unavailable for this book.")
    ]
    var result = BackendResult(status: 500, document: apology)
    for _ in 0..<attempts where !result.isGood {
      guard let answer = try? backend.get(call) else {
        result.status = 500
        continue
      }
      result.status = answer.status
      guard result.isGood else { continue }
      if let document = try? JSON(parsing: answer.body) {
        result.document = document
      } else {
        result.status = 500
      }
    }
    results.count(app, status: result.status)
    return result
  }
}

// MARK: - Pages

extension ProductPage {
  /// Always 200, whatever the backends do; details first, then reviews.
  private func page(_ request: HTTPRequest) -> HTTPResponse {
    let product = "0"
    let headers = forwarded(request)
    let details = getDetails(product, headers)
    for _ in 0..<floodFactor { _ = getReviews(product, headers) }
    let reviews = getReviews(product, headers)
    let view = ProductView(user: signer.user(of: request.headers), details: details, reviews: reviews)
    var response = HTTPResponse.page(view.html)
    response.headers.add("vary", "Cookie")
    response.headers.add("cache-control", "no-store")
    return response
  }

  private func logIn(_ request: HTTPRequest) -> HTTPResponse {
    let given = Form(parsing: request.body)["username"] ?? Form(parsing: (request.query ?? "").utf8)["username"] ?? ""
    let user = String(given.drop(while: { $0 == " " }).reversed().drop(while: { $0 == " " }).reversed())
    guard user.utf8.count <= Limits.userNameBytes, user.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F }) else {
      return HTTPResponse(
        status: 400, text: "A user name has at most \(Limits.userNameBytes) bytes and no control characters.\n")
    }
    let cookie = user.isEmpty ? Self.expiredCookie : Self.cookie(signer.cookie(for: user))
    return redirectBack(request, settingCookie: cookie)
  }

  private func logOut(_ request: HTTPRequest) -> HTTPResponse { redirectBack(request, settingCookie: Self.expiredCookie) }

  private static func cookie(_ value: String) -> String {
    "\(SessionSigner.cookieName)=\(value); HttpOnly; Path=/; SameSite=Lax"
  }

  private static let expiredCookie =
    "\(SessionSigner.cookieName)=; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=0; HttpOnly; Path=/; SameSite=Lax"

  /// To where the visitor came from, or to the page when the browser does not say.
  private func redirectBack(_ request: HTTPRequest, settingCookie cookie: String) -> HTTPResponse {
    let referer = request.headers["referer"].flatMap { Self.isWebAddress($0) ? $0 : nil }
    var response = HTTPResponse(status: 302, text: "")
    response.headers.add("location", referer ?? "/productpage")
    response.headers.add("set-cookie", cookie)
    response.headers.add("vary", "Cookie")
    return response
  }

  private static func isWebAddress(_ text: String) -> Bool {
    let isVisible = text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    return isVisible && ["http://", "https://", "/"].contains { text.utf8.starts(with: $0.utf8) }
  }
}

extension HTTPResponse {
  /// A page that runs no script, is framed by nobody and loads only this service's own files.
  static func page(_ html: String) -> HTTPResponse {
    var response = HTTPResponse(status: 200, text: html, type: "text/html; charset=utf-8")
    response.headers.add(
      "content-security-policy",
      "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
    response.headers.add("x-content-type-options", "nosniff")
    return response
  }
}
