import HTTPCodec
import Primitives

/// A file under `/static/`, held in the binary so that one file is the whole service.
struct StaticFile: Sendable {
  let type: String
  let bytes: [UInt8]
  /// Changes with the content: FNV-1a of it, quoted as an entity tag is (RFC 9110 8.8.3).
  let entityTag: String

  private init(type: String, text: String) {
    self.type = type
    bytes = Array(text.utf8)
    let hash = bytes.reduce(0xCBF2_9CE4_8422_2325 as UInt64) { ($0 ^ UInt64($1)) &* 0x100_0000_01B3 }
    entityTag = "\"\(String(hash, radix: 16))\""
  }

  private static let files = [
    "bookstore.css": StaticFile(type: "text/css; charset=utf-8", text: Stylesheet.text),
    "icon.svg": StaticFile(type: "image/svg+xml", text: Icon.text),
  ]

  static func named(_ name: String) -> StaticFile? { files[name] }

  func answer(_ request: HTTPRequest) -> HTTPResponse {
    let isKnown = request.headers["if-none-match"].map { $0 == "*" || $0.contains(entityTag) } ?? false
    var response = HTTPResponse(
      status: isKnown ? 304 : 200, headers: [HTTPField("etag", entityTag), HTTPField("cache-control", "max-age=300")])
    guard !isKnown else { return response }
    response.headers.add("content-type", type)
    response.headers.add("x-content-type-options", "nosniff")
    response.body = bytes
    return response
  }
}

/// The mark of the shop: an open book.
enum Icon {
  static let text = """
    <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32">
    <rect width="32" height="32" rx="8" fill="#4338ca"/>
    <path d="M16 10.2C13.6 8.4 10.4 8 6.5 8.3v14.2c3.9-.3 7.1.1 9.5 1.9V10.200z" fill="#fff"/>
    <path d="M16 10.200c2.400-1.800 5.600-2.200 9.500-1.900v14.200c-3.900-.3-7.100.1-9.500 1.900V10.200z" fill="#c7d2fe"/>
    </svg>

    """
}
