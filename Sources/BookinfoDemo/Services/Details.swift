import HTTPCodec
import Primitives

/// The facts about the book; version 2 asks a public book service for them.
struct Details: Service {
  /// Where version 2 asks, and how.
  struct ExternalBookService: Hashable, Sendable {
    var isEncrypted: Bool
    static let host = "www.googleapis.com"
    static let isbn = "0486424618"
    static let timeouts = CallTimeouts(connect: .seconds(60), read: .seconds(5))
  }

  let external: ExternalBookService?
  let backend: any Backend

  init(environment: Environment, backend: any Backend) {
    external =
      environment.isTrue("ENABLE_EXTERNAL_BOOK_SERVICE")
      ? ExternalBookService(isEncrypted: !environment.isTrue("DO_NOT_ENCRYPT")) : nil
    self.backend = backend
  }

  /// Any method is answered alike.
  func respond(to request: HTTPRequest) -> HTTPResponse {
    switch request.segments.first {
    case "health": return .json(200, ["status": "Details is healthy"])
    case "details": return details(request)
    default: return .notFound
    }
  }

  private func details(_ request: HTTPRequest) -> HTTPResponse {
    guard let id = Self.productNumber(request.segments.last ?? "") else {
      return .json(400, ["error": "please provide numeric product id"])
    }
    guard let external else { return .json(200, Self.book(id: id)) }
    do {
      return .json(200, try fetchBook(id: id, from: external, headers: ForwardedHeaders.fromService(request.headers)))
    } catch {
      return .json(400, ["error": .string(error.description)])
    }
  }

  static func productNumber(_ text: Substring) -> JSON? {
    let digits = text.utf8.first == UInt8(ascii: "-") ? text.utf8.dropFirst() : text.utf8[...]
    guard digits.count <= Limits.productDigits, let number = parseDecimal(digits) else { return nil }
    return .integer(digits.count < text.utf8.count ? -Int64(number) : Int64(number))
  }

  static func book(id: JSON) -> JSON {
    [
      "id": id, "author": "William Shakespeare", "year": .integer(1595), "type": "paperback", "pages": .integer(200),
      "publisher": "PublisherA", "language": "English", "ISBN-10": "1234567890", "ISBN-13": "123-1234567890",
    ]
  }
}

// MARK: - The external book service

extension Details {
  private struct ExternalError: Error, CustomStringConvertible {
    let description: String
  }

  private func fetchBook(id: JSON, from external: ExternalBookService, headers: [HTTPField]) throws(ExternalError) -> JSON {
    let call = BackendCall(
      host: ExternalBookService.host, port: external.isEncrypted ? 443 : 80,
      target: "/books/v1/volumes?q=isbn:\(ExternalBookService.isbn)", headers: headers,
      timeouts: ExternalBookService.timeouts, isEncrypted: external.isEncrypted)
    let document: JSON
    do {
      document = try JSON(parsing: backend.get(call).body)
    } catch {
      throw ExternalError(description: "the book service at \(ExternalBookService.host): \(error)")
    }
    guard let book = document["items"]?[0]?["volumeInfo"], let author = book["authors"]?[0],
      let isbn10 = Self.isbn("ISBN_10", of: book), let isbn13 = Self.isbn("ISBN_13", of: book)
    else {
      throw ExternalError(description: "the book service at \(ExternalBookService.host) does not know the book")
    }
    return [
      "id": id, "author": author, "year": book["publishedDate"] ?? .null,
      "type": book["printType"] == "BOOK" ? "paperback" : "unknown", "pages": book["pageCount"] ?? .null,
      "publisher": book["publisher"] ?? .null, "language": book["language"] == "en" ? "English" : "unknown",
      "ISBN-10": isbn10, "ISBN-13": isbn13,
    ]
  }

  private static func isbn(_ type: String, of book: JSON) -> JSON? {
    book["industryIdentifiers"]?.elements?.first { $0["type"]?.string == type }?["identifier"]
  }
}
