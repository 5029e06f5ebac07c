import Testing

@testable import MeshActors

@Suite struct HealthCheckTests {
  // MARK: Thresholds (Kubernetes, readiness probes)

  @Test func `thresholds count answers in a row`() {
    var check = HealthCheck()
    (check.successThreshold, check.failureThreshold) = (2, 3)
    var tally = HealthTally()
    let bad = HealthVerdict.unhealthy("no")
    var isHealthy = false
    var changes: [HealthVerdict] = []
    for verdict in [HealthVerdict.healthy, bad, .healthy, .healthy, bad, bad, .healthy, bad, bad, bad, bad, .healthy, .healthy]
    {
      guard let certain = tally.count(verdict, isHealthy: isHealthy, check) else { continue }
      isHealthy = certain == .healthy
      changes.append(certain)
    }
    #expect(changes == [.healthy, bad, .healthy])
  }

  @Test func `an answer that contradicts what is published is asked again soon`() {
    var tally = HealthTally()
    var check = HealthCheck()
    check.failureThreshold = 3
    #expect(!tally.isUndecided(isHealthy: true))
    _ = tally.count(.unhealthy("no"), isHealthy: true, check)
    #expect(tally.isUndecided(isHealthy: true))
    _ = tally.count(.healthy, isHealthy: true, check)
    #expect(!tally.isUndecided(isHealthy: true))
  }

  // MARK: gRPC health-checking protocol

  private func frame(_ type: UInt8, _ flags: UInt8, stream: UInt8, _ payload: [UInt8]) -> [UInt8] {
    [0, 0, UInt8(payload.count), type, flags, 0, 0, 0, stream] + payload
  }

  private func answer(_ message: [UInt8]) -> [UInt8] {
    frame(4, 0, stream: 0, []) + frame(4, 1, stream: 0, []) + frame(1, 4, stream: 1, [0x88])
      + frame(0, 0, stream: 1, [0, 0, 0, 0, UInt8(message.count)] + message) + frame(1, 5, stream: 1, [0x88])
  }

  /// What the reader says, byte by byte.
  private func verdict(_ bytes: [UInt8]) -> HealthVerdict? {
    var reader = GRPCHealthReader()
    for byte in bytes {
      reader.receive([byte])
      if let verdict = reader.next() { return verdict }
    }
    return nil
  }

  @Test func `only SERVING is healthy`() {
    #expect(verdict(answer([0x08, 1])) == .healthy)
    #expect(verdict(answer([0x08, 2])) == .unhealthy("status NOT_SERVING"))
    #expect(verdict(answer([0x08, 3])) == .unhealthy("status 3"))
    #expect(verdict(answer([])) == .unhealthy("status UNKNOWN"))
  }

  @Test func `an answer without a message, a reset and a goodbye are unhealthy`() {
    for bytes in [
      frame(1, 5, stream: 1, [0x88]), frame(3, 0, stream: 1, [0, 0, 0, 8]), frame(7, 0, stream: 0, [0, 0, 0, 0, 0, 0, 0, 0]),
      frame(0, 1, stream: 1, [0, 0, 0]), frame(0, 0, stream: 1, [1, 0, 0, 0, 2, 8, 1]), Array("HTTP/1.1 400 Bad".utf8),
    ] {
      guard case .unhealthy = verdict(bytes) else {
        Issue.record("\(bytes)")
        continue
      }
    }
    #expect(verdict(frame(0, 0, stream: 3, [0, 0, 0, 0, 2, 8, 1])) == nil, "another stream")
  }

  @Test func `the request is a preface, settings, a head and one message`() {
    let bytes = GRPCHealthRequest.bytes(service: "books", authority: "127.0.0.1:9080")
    #expect(bytes.starts(with: Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)))
    var rest = bytes.dropFirst(24)
    var types: [UInt8] = []
    var last: [UInt8] = []
    while rest.count >= 9 {
      let head = Array(rest.prefix(9))
      types.append(head[3])
      let length = Int(head[1]) << 8 | Int(head[2])
      last = Array(rest.dropFirst(9).prefix(length))
      rest = rest.dropFirst(9 + length)
    }
    #expect(types == [4, 1, 0] && rest.isEmpty)
    #expect(last == [0, 0, 0, 0, 7, 0x0A, 5] + Array("books".utf8))
  }
}
