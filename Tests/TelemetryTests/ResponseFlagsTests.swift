import Primitives
import Testing

@Test func `response flags are listed by short name in Envoy's order`() {
  let flags: ResponseFlags = [.upstreamRetryLimitExceeded, .upstreamConnectionFailure]
  #expect(flags.text == "UF,URX")
  #expect(ResponseFlags().text == "-")
  #expect(ResponseFlags.noRouteFound.text == "NR")
  #expect(ResponseFlags.dropOverload.text == "DO")
  #expect(ResponseFlags.downstreamProtocolError.text == "DPE")
}
