import HTTPCodec
import Testing

@testable import BookinfoDemo

@Suite struct ReviewsTests {
  private func reviews(_ version: String, _ backend: ScriptedBackend, _ extra: [String: String] = [:]) throws -> Reviews {
    let environment = Environment(extra).withDefaults(ServiceImage.defaults(.reviews, version: version))
    return try Reviews(environment: environment, backend: backend)
  }

  private static let good = #"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#
  private static let texts = (
    "An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!",
    "Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare."
  )

  private static func document(_ head: String, _ first: String, _ second: String) -> String {
    head + #""reviews": [{  "reviewer": "Reviewer1",  "text": "\#(texts.0)"\#(first)},"#
      + #"{  "reviewer": "Reviewer2",  "text": "\#(texts.1)"\#(second)}]}"#
  }

  private static let unknown = #"{"id": "0","podname": "null","clustername": "null","#
  private static let missing = #", "rating": {"error": "Ratings service is currently unavailable"}"#

  @Test(arguments: [
    ("v1", "", ""), ("v2", #", "rating": {"stars": 5, "color": "black"}"#, #", "rating": {"stars": 4, "color": "black"}"#),
    ("v3", #", "rating": {"stars": 5, "color": "red"}"#, #", "rating": {"stars": 4, "color": "red"}"#),
  ])
  func `each version answers byte for byte`(version: String, first: String, second: String) throws {
    let backend = ScriptedBackend { _ in .ok(Self.good) }
    let response = try reviews(version, backend).respond(to: .get("/reviews/0"))
    #expect(response.text == Self.document(Self.unknown, first, second))
    #expect(response.header("content-type") == "application/json")
    #expect(backend.received.count == (version == "v1" ? 0 : 1))
  }

  @Test func `pod and cluster are named`() throws {
    let backend = ScriptedBackend { _ in .ok(Self.good) }
    let named = try reviews("v1", backend, ["HOSTNAME": "pod-1", "CLUSTER_NAME": "east"])
    let head = #"{"id": "7","podname": "pod-1","clustername": "east","#
    #expect(named.respond(to: .get("/reviews/7")).text == Self.document(head, "", ""))
  }

  @Test(arguments: [503, 404, 555])
  func `without good ratings both reviews say so, in one attempt`(status: Int) throws {
    let backend = ScriptedBackend { _ in BackendAnswer(status: status, body: Array(Self.good.utf8)) }
    let response = try reviews("v2", backend).respond(to: .get("/reviews/0"))
    #expect(response.status == 200)
    #expect(response.text == Self.document(Self.unknown, Self.missing, Self.missing))
    #expect(backend.received.count == 1)
  }

  @Test func `a timeout and a reviewer who is missing say so`() throws {
    let late = ScriptedBackend { _ throws(CallError) in throw .timedOut("waiting") }
    #expect(
      try reviews("v3", late).respond(to: .get("/reviews/0")).text == Self.document(Self.unknown, Self.missing, Self.missing))
    let half = ScriptedBackend { _ in .ok(#"{"id":0,"ratings":{"Reviewer1":0}}"#) }
    let zero = #", "rating": {"stars": 0, "color": "red"}"#
    #expect(try reviews("v3", half).respond(to: .get("/reviews/0")).text == Self.document(Self.unknown, zero, Self.missing))
  }

  @Test func `black stars wait ten seconds for ratings, other colours two and a half`() throws {
    let backend = ScriptedBackend { _ in .ok(Self.good) }
    #expect(try reviews("v2", backend).timeouts == .both(.seconds(10)))
    #expect(try reviews("v3", backend).timeouts == .both(.milliseconds(2500)))
  }

  @Test func `ratings are asked where the environment says`() throws {
    let backend = ScriptedBackend { _ in .ok(Self.good) }
    let elsewhere = [
      "RATINGS_HOSTNAME": "stars", "SERVICES_DOMAIN": "shop.test", "RATINGS_SERVICE_PORT": "81", "ENABLE_RATINGS": "TRUE",
    ]
    _ = try reviews("v1", backend, elsewhere).respond(to: .get("/reviews/3"))
    let call = try #require(backend.received.first)
    #expect(call.host == "stars.shop.test")
    #expect(call.port == 81)
    #expect(call.target == "/ratings/3")
  }

  @Test(arguments: ["/reviews/abc", "/reviews/", "/reviews/1/2", "/reviews/2147483648", "/", "/reviewsx/1"])
  func `other paths are not found`(path: String) throws {
    let backend = ScriptedBackend { _ in .ok(Self.good) }
    #expect(try reviews("v1", backend).respond(to: .get(path)).status == 404)
  }

  @Test func `health has a blank`() throws {
    let backend = ScriptedBackend { _ in .ok(Self.good) }
    #expect(try reviews("v1", backend).respond(to: .get("/health")).text == #"{"status": "Reviews is healthy"}"#)
  }
}
