import HTTP2
import Testing

@Suite struct HTTP2LimitsTests {
  @Test func `A peer is allowed at least a hundred streams, as RFC 9113 recommends`() {
    #expect(HTTP2Limits().concurrentStreams >= 100)
    #expect(HTTP2Limits.mesh.concurrentStreams >= 100)
  }
}
