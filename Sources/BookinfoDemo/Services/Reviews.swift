import HTTPCodec
import Primitives

/// Two reviews of the book; versions 2 and 3 ask ratings for the stars.
struct Reviews: Service {
  let ratings: ServiceAddress
  let isRated: Bool
  let starColor: String
  let podName: String
  let clusterName: String
  let timeouts: CallTimeouts
  let backend: any Backend

  /// A deliberate bug of Bookinfo: with black stars reviews waits longer for ratings than productpage waits for reviews.
  static func timeouts(starColor: String) -> CallTimeouts {
    .both(starColor == "black" ? .seconds(10) : .milliseconds(2500))
  }

  init(environment: Environment, backend: any Backend, timeouts: CallTimeouts? = nil) throws(UsageError) {
    ratings = try ServiceAddress(of: "ratings", in: environment)
    isRated = environment.isTrue("ENABLE_RATINGS", anyCase: true)
    starColor = environment["STAR_COLOR"] ?? "black"
    podName = environment["HOSTNAME"] ?? "null"
    clusterName = environment["CLUSTER_NAME"] ?? "null"
    self.timeouts = timeouts ?? Self.timeouts(starColor: starColor)
    self.backend = backend
  }

  func respond(to request: HTTPRequest) -> HTTPResponse {
    if request.path == "/health" { return .json(200, #"{"status": "Reviews is healthy"}"#) }
    let segments = request.segments
    guard segments.count == 2, segments[0] == "reviews", let product = Self.productNumber(segments[1]) else {
      return .notFound
    }
    guard request.isRead else { return .methodNotAllowed(allow: "GET, HEAD") }
    guard isRated else { return .json(200, document(product: product, ratingParts: ["", ""])) }
    let ratings = ratings(product: product, headers: ForwardedHeaders.fromService(request.headers))
    let parts = ["Reviewer1", "Reviewer2"].map { ratingPart(stars: ratings?[$0]?.integer) }
    return .json(200, document(product: product, ratingParts: parts))
  }

  /// A 32-bit number, as the original's path parameter.
  static func productNumber(_ text: Substring) -> Int32? {
    let isNegative = text.utf8.first == UInt8(ascii: "-")
    let max: UInt64 = isNegative ? 1 << 31 : (1 << 31) - 1
    guard let number = parseDecimal(isNegative ? text.utf8.dropFirst() : text.utf8[...], max: max) else { return nil }
    return Int32(truncatingIfNeeded: isNegative ? -Int64(number) : Int64(number))
  }

  /// The `ratings` object of a good answer; nil when there is none in time.
  private func ratings(product: Int32, headers: [HTTPField]) -> JSON? {
    let call = BackendCall(
      host: ratings.host, port: ratings.port, target: "/ratings/\(product)", headers: headers, timeouts: timeouts)
    guard let answer = try? backend.get(call), answer.status == 200 else { return nil }
    return (try? JSON(parsing: answer.body))?["ratings"]
  }

  private func ratingPart(stars: Int?) -> String {
    guard let stars, stars != -1 else { return #", "rating": {"error": "Ratings service is currently unavailable"}"# }
    return #", "rating": {"stars": \#(stars), "color": "\#(starColor)"}"#
  }

  /// The original joins strings; its blanks are part of the contract.
  private func document(product: Int32, ratingParts: [String]) -> String {
    let head = #"{"id": "\#(product)","podname": "\#(podName)","clustername": "\#(clusterName)","reviews": ["#
    let reviews = zip(Self.texts, ratingParts).enumerated().map { index, review in
      #"{  "reviewer": "Reviewer\#(index + 1)",  "text": "\#(review.0)"\#(review.1)}"#
    }
    return head + reviews.joined(separator: ",") + "]}"
  }

  static let texts = [
    "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
    "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.",
  ]
}
