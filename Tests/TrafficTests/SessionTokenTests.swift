import MeshConfig
import Primitives
import Testing

@testable import Traffic

/// What clients carry of a session that stays with an endpoint (Gateway API, `sessionPersistence`).
@Suite struct SessionTokenTests {
  private static let cookie = SessionPersistence(name: bytes("id"), carrier: .cookie(path: "/shop"))
  private static let header = SessionPersistence(name: bytes("x-session"), carrier: .header)
  private static func limited(permanent: Bool = false, idle: Duration? = nil) -> SessionPersistence {
    SessionPersistence(
      name: bytes("id"), carrier: .cookie(path: "/"), absoluteTimeout: .seconds(100), idleTimeout: idle, isPermanent: permanent)
  }
  private func text(_ field: [UInt8]) -> String { String(decoding: field, as: UTF8.self) }
  private func back(_ field: [UInt8]) -> TestRequest {
    TestRequest(headers: [("cookie", "other=1; \(text(field).split(separator: ";").first ?? "")")])
  }

  @Test(arguments: [1, 0xDEAD_BEEF, UInt64.max]) func `what is told comes back as it was`(endpoint: UInt64) {
    let token = SessionToken(Self.cookie, at: endpoint, after: nil, now: 7)
    let told = token.field(of: Self.cookie, now: 7)
    #expect(text(told) == "id=\"\(String(endpoint, radix: 16)).0.0\"; Path=/shop; HttpOnly")
    #expect(SessionToken(back(told), Self.cookie, now: 1 << 60) == token)
    let field = token.field(of: Self.header, now: 7)
    #expect(SessionToken(TestRequest(headers: [("x-session", text(field))]), Self.header, now: 8) == token)
    #expect(SessionToken(TestRequest(), Self.header, now: 8) == nil && SessionToken(TestRequest(), Self.cookie, now: 8) == nil)
  }

  @Test func `a session ends when its time is over, however often it is used`() {
    let session = Self.limited(permanent: true)
    let first = SessionToken(session, at: 5, after: nil, now: 1000)
    #expect(text(first.field(of: session, now: 1000)).contains("; Max-Age=100; "))
    #expect(!text(first.field(of: Self.limited(), now: 1000)).contains("Max-Age"))
    let request = back(first.field(of: session, now: 1000))
    #expect(SessionToken(request, session, now: 1099) == first && SessionToken(request, session, now: 1100) == nil)
    #expect(SessionToken(session, at: 5, after: first, now: 1090).expires == 1100)
  }

  @Test func `an idle session ends, and each request prolongs it up to its end`() {
    let session = Self.limited(idle: .seconds(10))
    let first = SessionToken(session, at: 5, after: nil, now: 1000)
    let request = back(first.field(of: session, now: 1000))
    #expect(SessionToken(request, session, now: 1009) == first && SessionToken(request, session, now: 1010) == nil)
    let later = SessionToken(session, at: 5, after: first, now: 1009)
    #expect(later.idleUntil == 1019 && later.expires == 1100)
  }

  @Test(arguments: [
    "", "1", "1.2", "1.2.", ".1.2", "1..2", "1.2.3.4", "g.0.0", "A.0.0", "11111111111111111.0.0", "1.0.0 ", "-1.0.0",
  ])
  func `anything else is no session`(value: String) {
    #expect(SessionToken(TestRequest(headers: [("x-session", value)]), Self.header, now: 0) == nil)
  }

  @Test func `random bytes are no session, and no harm`() {
    var draws = SeededGenerator(seed: 3)
    for _ in 0..<2000 {
      let noise = (0..<Int(draws.below(60))).map { _ in Array("0123456789abcdef..x\u{7F}".utf8)[Int(draws.below(20))] }
      _ = SessionToken(noise.span)
    }
  }
}
