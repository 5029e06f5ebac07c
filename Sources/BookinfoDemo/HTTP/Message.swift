import HTTPCodec

extension [HTTPField] {
  /// The first value of a field; `name` in lower case.
  subscript(name: String) -> String? { first { $0.name == name }?.value }
  mutating func add(_ name: String, _ value: String) { append(HTTPField(name, value)) }
}

extension HTTPRequest {
  /// The parts of the path between slashes, empty ones left out.
  var segments: [Substring] { path.split(separator: "/") }
  /// What follows the last slash, empty when the path ends with one.
  var lastSegment: Substring { path.lastIndex(of: "/").map { path[path.index(after: $0)...] } ?? path[...] }
  /// GET, or the HEAD that asks for the same without the body.
  var isRead: Bool { method == "GET" || method == "HEAD" }
}

extension HTTPResponse {
  static func json(_ status: Int, _ text: String) -> HTTPResponse {
    HTTPResponse(status: status, text: text, type: "application/json")
  }
  static func json(_ status: Int, _ value: JSON, _ style: JSON.Style = .compact) -> HTTPResponse {
    json(status, value.text(style))
  }
  static let notFound = HTTPResponse(status: 404, text: "Not Found\n")
  static func methodNotAllowed(allow: String) -> HTTPResponse {
    var response = HTTPResponse(status: 405, text: "Method Not Allowed\n")
    response.headers.add("allow", allow)
    return response
  }
}

/// A service of Bookinfo: a function from request to response, called on many threads at once.
protocol Service: Sendable {
  func respond(to request: HTTPRequest) -> HTTPResponse
  /// How long the next answer to this request is held back; the connection is freed at once when the client leaves.
  func delay(of request: HTTPRequest) -> Duration
}

extension Service {
  func delay(of request: HTTPRequest) -> Duration { .zero }
}
