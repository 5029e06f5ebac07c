import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

// How an exchange ends: the upstream's answer, another try, the proxy's own answer, or a client that went away.
extension Exchange: UpstreamObserver {
  func upstreamConnected() {
    guard phase == .connecting, let upstream else { return }
    send(on: upstream)
  }

  func upstreamInterim(_ interim: borrowing ResponseHead) {
    guard phase == .sending, interim.status != 101, let connection else { return }
    interim.write(into: &connection.output.bytes, chunked: false, close: false)
  }

  func upstreamCanTakeMore() {
    if phase == .tunnel { pumpTunnel() } else { pumpRequestBody() }
  }

  func flushClient() { connection?.flush() }

  // MARK: The response head

  func upstreamResponded() {
    guard phase == .sending, let upstream else { return }
    serviceMilliseconds = milliseconds(now - tryBegan)
    if upstream.head.status == 101 { return switchProtocols(upstream) }
    let isNotProcessed = upstream.key.security == .mesh && upstream.head.headers.contains(.notProcessed)
    let outcome = isNotProcessed ? TryOutcome.notProcessed : .response(tryResponse(upstream.head))
    if isNotProcessed || upstream.head.status >= 400 || upstream.head.headers.contains(.grpcStatus) {
      if tryAgain(after: outcome) { return }
    }
    passOn(upstream)
  }

  private func tryResponse(_ head: borrowing ResponseHead) -> TryResponse {
    let grpc = head.headers.value(.grpcStatus).flatMap { parseDecimal(head.headers.copy($0), max: 255) }
    return TryResponse(
      status: UInt16(clamping: head.status), grpcStatus: grpc.map { UInt8(clamping: $0) },
      isOverloaded: head.headers.contains(.overloaded), isRateLimited: head.headers.contains(.ratelimited))
  }

  /// Writes the upstream's head to the client, with what the mesh adds.
  private func passOn(_ upstream: UpstreamConnection) {
    guard let connection else { return }
    phase = .responding
    cancelTimers(keepingTotal: true)
    settleTry(status: upstream.head.status)
    status = UInt16(clamping: upstream.head.status)
    details = "via_upstream"
    upstreamLocalText = worker.state.options.accessLog == nil ? "" : upstream.localAddressText
    editResponse(&upstream.head)
    responseChunked = upstream.head.framing == .chunked || upstream.head.framing == .untilClose
    let before = connection.output.bytes.count
    closesAfter = mustCloseAfter
    upstream.head.write(into: &connection.output.bytes, chunked: responseChunked, close: closesAfter)
    responseHeadBytes = UInt64(connection.output.bytes.count - before)
  }

  private func editResponse(_ response: inout ResponseHead) {
    response.headers.removeHopByHop(keepingUpgrade: false)
    response.headers.remove(.notProcessed)
    response.headers.remove(.meshSource)
    response.headers.remove(.peerMetadata)
    response.headers.remove(.peerMetadataID)
    response.headers.remove(.decoratorOperation)
    response.headers.set(Names.server, inbound != nil || isGateway ? Names.istioEnvoy : Names.envoy)
    if let serviceMilliseconds { response.headers.set(Names.serviceTime, number: serviceMilliseconds) }
    if let setCookie { response.headers.add(Names.setCookie, setCookie) }
    applyResponseChanges(&response.headers)
    grpcStatus = response.headers.value(.grpcStatus).flatMap { parseDecimal(response.headers.copy($0), max: 255) }
      .map { UInt8(clamping: $0) }
  }

  /// A client that waits for `100 Continue` and gets a final answer may or may not send its body: nobody can know.
  private var mustCloseAfter: Bool {
    !head.keepsAlive || connection?.port.isDraining == true || worker.isDraining
      || head.expectsContinue && !bodyEnded && requestBodyBytes == 0
  }

  // MARK: The response body

  func upstreamBody(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard phase == .responding, let connection else { return }
    responseBodyBytes += UInt64(bytes.count)
    if responseChunked {
      ChunkedEncoder.write(bytes.span, into: &connection.output.bytes)
    } else {
      connection.output.bytes.append(contentsOf: bytes)
    }
    connection.setDeadline(state.options.streamIdleTimeout)
    if connection.output.pending >= ProxyLimits.outputHighWater { upstream?.pause() }
  }

  func clientCanTakeMore() { upstream?.resume() }

  func upstreamEnded(trailers: HeaderBlock?) {
    guard phase == .responding, let connection else { return }
    if responseChunked { ChunkedEncoder.writeEnd(trailers: trailers, into: &connection.output.bytes) }
    if let trailers, grpcStatus == nil {
      grpcStatus = trailers.value(.grpcStatus).flatMap { parseDecimal(trailers.copy($0), max: 255) }
        .map { UInt8(clamping: $0) }
    }
    upstream = nil
    // What the head said holds: a client told to keep the connection may have sent its next request already.
    let keepAlive = !closesAfter
    finish()
    connection.exchangeEnded(keepAlive: keepAlive)
  }

  // MARK: Upgrades

  private func switchProtocols(_ upstream: UpstreamConnection) {
    guard head.wantsUpgrade, let connection else {
      upstream.cancel()
      self.upstream = nil
      return tryFailed(.malformed(MessageError(.malformedStatusLine, status: 502)))
    }
    cancelTimers(keepingTotal: false)
    phase = .tunnel
    status = 101
    details = "via_upstream"
    upstream.head.headers.removeHopByHop(keepingUpgrade: true)
    upstream.head.headers.add(Names.connection, Names.upgradeValue)
    upstream.head.write(into: &connection.output.bytes, chunked: false, close: false)
    connection.setDeadline(nil)
    connection.beginTunnel()
    pumpTunnel()
  }

  /// Moves the client's bytes to the upstream as far as it has room.
  func pumpTunnel() {
    guard phase == .tunnel, let connection, let upstream else { return }
    while upstream.pendingOutput < ProxyLimits.outputHighWater {
      let moved = connection.readTunnel { bytes in
        requestBodyBytes += UInt64(bytes.count)
        upstream.write { $0.append(contentsOf: bytes) }
      }
      guard moved else { break }
    }
    if upstream.pendingOutput >= ProxyLimits.outputHighWater { upstream.isCongested = true }
    upstream.flush()
    if connection.hasEnded, self.upstream != nil {
      endTunnel()
      connection.close()
    }
  }

  func upstreamTunnel(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard phase == .tunnel, let connection else { return }
    responseBodyBytes += UInt64(bytes.count)
    connection.output.bytes.append(contentsOf: bytes)
    if connection.output.pending >= ProxyLimits.outputHighWater { upstream?.pause() }
  }

  private func endTunnel() {
    dropUpstream()
    finish()
  }

  // MARK: Failures and other tries

  func upstreamFailed(_ failure: UpstreamFailure) {
    let lost = upstream
    upstream = nil
    upstreamReady = false
    switch phase {
    case .connecting:
      worker.counters.upstreamConnectFailures += 1
      tryFailed(failure)
    case .sending:
      if let lost, lost.isReused, !lost.hasReceived { worker.upstreams.learnClose(lost.key, after: lost.idledFor) }
      if mayReconnect(lost) { return reconnect() }
      tryFailed(failure, wasSent: lost?.hasSent ?? true)
    case .responding:
      // Part of the answer is out: it must be seen as cut.
      flags.insert(failure == .reset ? .upstreamRemoteReset : .upstreamConnectionTermination)
      details = "upstream_reset_after_response_started{\(failure == .reset ? "remote_reset" : "connection_termination")}"
      let connection = connection
      finish()
      connection?.abort()
    case .tunnel:
      let connection = connection
      finish()
      connection?.exchangeEnded(keepAlive: false)
    case .idle, .deciding: break
    }
  }

  /// A kept connection that ended before any byte of an answer was closed by its peer while it lay idle: the request may
  /// go on a new one when nothing of it left, or when doing it twice does no harm.
  private func mayReconnect(_ lost: UpstreamConnection?) -> Bool {
    guard let lost, usedReusedConnection, lost.isReused, !lost.hasReceived, replayIsWhole else { return false }
    return !lost.hasSent || head.method.isIdempotent
  }

  private func reconnect() {
    uncount()
    tried.removeLast(min(1, tried.count))
    mustOpenNew = true
    attempts -= 1
    beginTry()
  }

  /// The current try came to nothing before a response.
  func tryFailed(_ failure: UpstreamFailure, wasSent: Bool = false) {
    upstreamReady = false
    let outcome: TryOutcome
    switch failure {
    case .connect(let why):
      if isCounted, let ticket { clusterState?.balancer.report(.connectFailed, ticket, now: now) }
      transportFailure = Self.text(why)
      outcome = .connectFailed
    case .closed, .reset: outcome = .reset(isRequestSent: wasSent)
    case .malformed: outcome = .response(TryResponse(status: 502))
    }
    if case .connect = failure {} else { settleTry(status: 0) }
    if case .malformed = failure { return reply(failure.error) }
    if tryAgain(after: outcome) { return }
    reply(ProxyReply(failure.error, isRetried: attempts > 1))
  }

  private static func text(_ failure: ProxyError.ConnectFailure) -> String {
    switch failure {
    case .refused: "delayed_connect_error:_Connection_refused"
    case .timedOut: "connection_timeout"
    case .unreachable: "delayed_connect_error:_No_route_to_host"
    case .tls(let why): "TLS_error:_\(why)"
    case .dns: "dns_resolution_failure"
    }
  }

  func tryTimedOut() {
    guard phase == .connecting || phase == .sending else { return }
    dropUpstream()
    settleTry(status: 0)
    if tryAgain(after: .perTryTimeout) { return }
    reply(.perTryTimeout)
  }

  /// Asks whether the request goes elsewhere, and begins that; false when this try was the last.
  private func tryAgain(after outcome: TryOutcome) -> Bool {
    var input = RetryInput(
      policy: retryPolicy, outcome: outcome, method: head.method, retriesDone: retries, repicksDone: repicks,
      canReplayBody: replayIsWhole, hasResponseBegun: phase == .responding, now: now, deadline: deadline)
    if let cluster, let clusterState, snapshot.clusters.indices.contains(cluster) {
      input.load = clusterState.load
      input.maxRetries = snapshot.clusters[cluster].connectionPool.maxRetries
    }
    switch RetryDecision(input, draws: &worker.draws) {
    case .giveUp(let reason):
      if reason == .exhausted, retries > 0 { flags.insert(.upstreamRetryLimitExceeded) }
      return false
    case .repick:
      repicks += 1
      leaveTry()
      beginTry()
      return true
    case .retry(let wait):
      retries += 1
      worker.counters.retries += 1
      leaveTry()
      if wait <= .milliseconds(1) { beginTry() } else { pause(wait, then: .retry) }
      return true
    }
  }

  /// Inbound, a request that never reached the application is tried again twice (Istio's inbound default).
  private var retryPolicy: RetryPolicy? {
    guard inbound != nil else { return route == nil ? snapshot.settings.defaultRetry : route?.retry }
    return isGRPC ? nil : RetryPolicy(attempts: 2, conditions: .resetBeforeRequest)
  }

  private func leaveTry() {
    dropUpstream()
    uncount()
    worker.loop.cancel(tryTimer)
    tryTimer = .none
    phase = .deciding
  }

  /// Ends the upstream's part; nobody hears of it again.
  func dropUpstream() {
    stopWaiting()
    upstreamReady = false
    let dropped = upstream
    upstream = nil
    dropped?.cancel()
  }

  /// Tells the balancer how the endpoint did.
  private func settleTry(status: Int) {
    guard let clusterState, let ticket, isCounted else { return }
    clusterState.balancer.report(
      status == 0 ? .localOriginFailure : .response(status: UInt16(clamping: status)), ticket, now: now)
  }

  func uncount() {
    guard isCounted, let clusterState else { return }
    isCounted = false
    clusterState.load.activeRequests -= 1
    if isRetryCounted { clusterState.load.activeRetries -= 1 }
    isRetryCounted = false
    if let ticket { clusterState.balancer.finished(ticket) }
    if let next = clusterState.nextWaiting() {
      next.isWaiting = false
      worker.tryNextTurn(next)
    }
  }

  func stopWaiting() {
    guard isWaiting else { return }
    isWaiting = false
    clusterState?.stopWaiting(self)
  }

  func timedOut(_ error: ProxyError) {
    guard phase != .responding else { return responseTimedOut() }
    dropUpstream()
    settleTry(status: 0)
    reply(error)
  }

  private func responseTimedOut() {
    flags.insert(.upstreamRequestTimeout)
    details = "response_timeout"
    dropUpstream()
    let connection = connection
    finish()
    connection?.abort()
  }

  /// Nothing moved for too long.
  func streamIdle() {
    if phase == .responding || phase == .tunnel {
      flags.insert(.streamIdleTimeout)
      dropUpstream()
      let connection = connection
      finish()
      connection?.abort()
    } else {
      dropUpstream()
      reply(ProxyReply(.streamIdle, closes: true))
    }
  }

  // MARK: The proxy's own answer

  func reply(_ error: ProxyError) { reply(ProxyReply(error)) }

  /// Answers once, whatever was under way.
  func reply(_ answer: ProxyReply) {
    guard phase != .idle, phase != .responding, phase != .tunnel, let connection else { return }
    dropUpstream()
    worker.counters.localReplies += 1
    status = answer.answer.status
    flags.formUnion(answer.answer.flags)
    details = answer.answer.details
    let close = answer.closes || mustCloseAfter || !connection.requestIsComplete
    let before = connection.output.bytes.count
    let bodyBytes = answer.write(
      into: &connection.output.bytes, isGRPC: isGRPC, server: serverName, withBody: head.method != .head, close: close)
    responseBodyBytes = UInt64(bodyBytes)
    responseHeadBytes = UInt64(connection.output.bytes.count - before - bodyBytes)
    finish()
    connection.exchangeEnded(keepAlive: !close)
  }

  /// Answers bytes that are no request; nothing in them was understood, so nothing is routed or counted for a flow.
  func refuse(_ error: MessageError) {
    refuse(ProxyReply(error))
  }

  func refuse(status: Int, details: String) {
    refuse(
      ProxyReply(
        LocalReply(status: UInt16(clamping: status), body: "", flags: .downstreamProtocolError, details: details), closes: true)
    )
  }

  private func refuse(_ answer: ProxyReply) {
    guard let connection else { return }
    head = RequestHead()
    reset(at: connection.headBegan == .zero ? now : connection.headBegan)
    phase = .deciding
    worker.counters.requestsRefused += 1
    reply(answer)
  }

  /// The client went away: what works for it stops, and its place is free.
  func clientGone() {
    guard phase != .idle else { return }
    dropUpstream()
    if phase != .tunnel {
      flags.insert(.downstreamConnectionTermination)
      details = phase == .responding ? details : "downstream_remote_disconnect"
      if phase != .responding { status = 0 }
    }
    let connection = connection
    finish()
    connection?.close()
  }

  func cancelTimers(keepingTotal: Bool) {
    let total = totalTimer
    if keepingTotal { totalTimer = .none }
    cancelTimers()
    if keepingTotal { totalTimer = total }
  }
}
