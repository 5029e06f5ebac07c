import Primitives
import Telemetry
import Testing

// W3C Trace Context level 1, B3, and compatibility 6.

private func parse(_ header: String) -> TraceContext? { TraceContext(traceparent: Array(header.utf8)) }

private let valid = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

@Test func `a traceparent is read and written alike`() throws {
  let context = try #require(parse(valid))
  #expect(context.traceIDText == "4bf92f3577b34da6a3ce929d0e0e4736")
  #expect(context.spanIDText == "00f067aa0ba902b7")
  #expect(context.isSampled)
  var out: [UInt8] = []
  context.appendTraceparent(to: &out)
  #expect(String(decoding: out, as: UTF8.self) == valid)
}

@Test(arguments: [
  "", "00", "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
  "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
  "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
  "00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01", "0g-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
  "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x", "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-010",
  "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0G",
])
func `an invalid traceparent starts a new trace`(header: String) { #expect(parse(header) == nil) }

@Test func `a later version may be longer, and only the lowest flag is read`() {
  #expect(parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-02-more")?.isSampled == false)
  #expect(parse("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff")?.isSampled == true)
}

@Test func `a child keeps the trace and names its parent`() throws {
  var draws = SeededGenerator(seed: 1)
  let parent = try #require(parse(valid))
  let child = parent.child(using: &draws)
  #expect(child.traceIDText == parent.traceIDText)
  #expect(child.parentSpanID == parent.spanID)
  #expect(child.spanID != parent.spanID)
  #expect(TraceContext(using: &draws, isSampled: false).traceIDText.count == 32)
}

@Test func `B3 ids have 64 or 128 bits`() throws {
  func b3(_ trace: String, _ span: String) -> TraceContext? {
    TraceContext(b3TraceID: Array(trace.utf8), spanID: Array(span.utf8), sampled: true)
  }
  #expect(b3("a3ce929d0e0e4736", "00f067aa0ba902b7")?.traceIDText == "0000000000000000a3ce929d0e0e4736")
  #expect(b3("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")?.traceIDText == "4bf92f3577b34da6a3ce929d0e0e4736")
  for trace in ["", "123", "0000000000000000", "zzce929d0e0e4736"] { #expect(b3(trace, "00f067aa0ba902b7") == nil) }
  #expect(b3("a3ce929d0e0e4736", "0000000000000000") == nil)
  let context = try #require(b3("a3ce929d0e0e4736", "00f067aa0ba902b7"))
  #expect(context.b3Headers.map(\.name) == ["x-b3-traceid", "x-b3-spanid", "x-b3-sampled"])
}

@Test func `an incoming B3 decision is honoured`() {
  func decision(_ sampled: String, _ flags: String = "") -> Bool? {
    TraceContext.b3Decision(sampled: Array(sampled.utf8), flags: Array(flags.utf8))
  }
  #expect(decision("1") == true && decision("true") == true && decision("0") == false && decision("") == nil)
  #expect(decision("0", "1") == true)
}

// MARK: Request ids

@Test func `a request id is a UUID whose version digit carries the trace decision`() {
  var draws = SeededGenerator(seed: 2)
  var seen: Set<String> = []
  for reason in [TraceReason.notTraced, .sampled, .forcedByServer, .forcedByClient] {
    for _ in 0..<200 {
      let text = RequestID(using: &draws, reason: reason).text
      let bytes = Array(text.utf8)
      #expect(bytes.count == 36)
      #expect([8, 13, 18, 23].allSatisfy { bytes[$0] == 0x2D })
      #expect(bytes[14] == reason.rawValue)
      #expect("89ab".utf8.contains(bytes[19]))
      #expect(RequestID.reason(in: bytes) == reason)
      seen.insert(text)
    }
  }
  #expect(seen.count == 800)
}

@Test func `the digit is 4 for not traced, 9 for sampled, a and b for forced`() {
  func reason(_ digit: String) -> TraceReason? {
    RequestID.reason(in: Array("0aa1f0c8-2a3b-\(digit)c4d-8e5f-001122334455".utf8))
  }
  #expect(
    reason("4") == .notTraced && reason("9") == .sampled && reason("a") == .forcedByServer && reason("B") == .forcedByClient)
  #expect(reason("1") == nil)
  #expect(RequestID.reason(in: Array("not a uuid".utf8)) == nil)
  #expect(RequestID.reason(in: Array("0aa1f0c8x2a3b-4c4d-8e5f-001122334455".utf8)) == nil)
}

// MARK: Rates

@Test func `a rate is the mean over the window`() {
  var window = RateWindow(seconds: 10)
  let second = { (n: UInt64) in Instant(nanoseconds: (1000 + n) * 1_000_000_000) }
  #expect(window.perSecond(at: second(0)) == 0)
  for n in 0..<20 as Range<UInt64> { window.add(5, at: second(n)) }
  #expect(window.perSecond(at: second(19)) == 5)
  #expect(window.perSecond(at: second(24)) == 2.5)
  #expect(window.perSecond(at: second(40)) == 0)
}

@Test func `a young rate is not thinned by seconds before its first event`() {
  var window = RateWindow(seconds: 60)
  window.add(30, at: Instant(nanoseconds: 5_000_000_000))
  #expect(window.perSecond(at: Instant(nanoseconds: 5_500_000_000)) == 30)
  #expect(window.perSecond(at: Instant(nanoseconds: 6_000_000_000)) == 15)
}
