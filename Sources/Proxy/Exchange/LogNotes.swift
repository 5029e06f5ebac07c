import HTTPCodec
import Primitives
import Transport

/// What some access logs ask for and a request's end does not know any more. Kept only where a log asks.
final class LogNotes {
  private(set) var sendBegan: Instant?
  var sendEnded: Instant?
  private(set) var responseBegan: Instant?
  private(set) var responseEnded: Instant?
  private(set) var answerBegan: Instant?
  private(set) var response: HeaderBlock?
  private(set) var trailers: HeaderBlock?
  private(set) var isUpstreamHTTP2: Bool?
  private(set) var upstreamTLS: TLSSession?

  func sends(on upstream: any Upstream, at now: Instant, isWhole: Bool) {
    sendBegan = now
    sendEnded = isWhole ? now : nil
    isUpstreamHTTP2 = upstream.isHTTP2
    upstreamTLS = upstream.tls
  }

  func answers(with headers: HeaderBlock, at now: Instant, isUpstreams: Bool) {
    response = headers
    answerBegan = now
    if isUpstreams { responseBegan = now }
  }

  func ends(with trailers: HeaderBlock?, at now: Instant) {
    self.trailers = trailers
    responseEnded = now
  }
}

extension Exchange {
  /// At the beginning of a request that is logged.
  func beginNotes() {
    startMilliseconds = wallClockMilliseconds()
    notes = worker.keepsLogNotes ? LogNotes() : nil
  }
}
