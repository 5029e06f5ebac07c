import HTTPCodec
import Testing

@testable import BookinfoDemo

@Suite struct DetailsTests {
  private let unreached = ScriptedBackend { _ throws(CallError) in throw .unresolved(host: "nobody") }

  @Test func `the book is answered byte for byte`() {
    let response = Details(environment: Environment(), backend: unreached).respond(to: .get("/details/0"))
    #expect(response.status == 200)
    #expect(response.header("content-type") == "application/json")
    #expect(
      response.text
        == #"{"id":0,"author":"William Shakespeare","year":1595,"type":"paperback","pages":200,"publisher":"PublisherA","language":"English","ISBN-10":"1234567890","ISBN-13":"123-1234567890"}"#
    )
    #expect(unreached.received.isEmpty)
  }

  @Test(arguments: ["/details/abc", "/details", "/details/1a", "/details/+1", "/details/99999999999999999999"])
  func `a product id that is no number is a bad request`(path: String) {
    let response = Details(environment: Environment(), backend: unreached).respond(to: .get(path))
    #expect(response.status == 400)
    #expect(response.text == #"{"error":"please provide numeric product id"}"#)
  }

  @Test func `any method is answered alike, health too, other paths are not found`() {
    let details = Details(environment: Environment(), backend: unreached)
    #expect(details.respond(to: .post("/details/7", "x")).text.hasPrefix(#"{"id":7,"#))
    #expect(details.respond(to: .get("/health")).text == #"{"status":"Details is healthy"}"#)
    #expect(details.respond(to: .get("/detailsx/0")).status == 404)
  }

  private static let volume = #"""
    {"items":[{"volumeInfo":{"authors":["William Shakespeare","B"],"publishedDate":"2002-01-01","printType":"BOOK",
    "pageCount":80,"publisher":"Courier","language":"en","industryIdentifiers":[{"type":"ISBN_13","identifier":"978"},
    {"type":"ISBN_10","identifier":"0486424618"}]}}]}
    """#

  @Test(arguments: [("true", UInt16(80), false), ("false", 443, true)])
  func `version 2 asks the external book service`(doNotEncrypt: String, port: UInt16, isEncrypted: Bool) throws {
    let backend = ScriptedBackend { _ in .ok(Self.volume) }
    let environment = Environment(["ENABLE_EXTERNAL_BOOK_SERVICE": "true", "DO_NOT_ENCRYPT": doNotEncrypt])
    let response = Details(environment: environment, backend: backend)
      .respond(to: .get("/details/0", headers: [HTTPField("x-request-id", "r"), HTTPField("x-other", "o")]))
    #expect(
      response.text
        == #"{"id":0,"author":"William Shakespeare","year":"2002-01-01","type":"paperback","pages":80,"publisher":"Courier","language":"English","ISBN-10":"0486424618","ISBN-13":"978"}"#
    )
    let call = try #require(backend.received.first)
    #expect(call.host == "www.googleapis.com")
    #expect(call.target == "/books/v1/volumes?q=isbn:0486424618")
    #expect(call.port == port)
    #expect(call.isEncrypted == isEncrypted)
    #expect(call.headers == [HTTPField("x-request-id", "r")])
    #expect(call.timeouts.read == .seconds(5))
  }

  @Test(arguments: ["", "{}", #"{"items":[{"volumeInfo":{"authors":[]}}]}"#])
  func `any failure of the external book service is a bad request`(body: String) {
    let environment = Environment(["ENABLE_EXTERNAL_BOOK_SERVICE": "true"])
    let details = Details(environment: environment, backend: ScriptedBackend { _ in .ok(body) })
    let response = details.respond(to: .get("/details/0"))
    #expect(response.status == 400)
    #expect(response.text.hasPrefix(#"{"error":"#))
    #expect(Details(environment: environment, backend: unreached).respond(to: .get("/details/0")).status == 400)
  }
}
