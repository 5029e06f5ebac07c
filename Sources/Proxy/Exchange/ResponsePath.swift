import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

// How an exchange ends: the upstream's answer, another try, the proxy's own answer, or a client that went away.
extension Exchange: UpstreamObserver {
  func upstreamConnected(_ upstream: any Upstream) {
    guard phase == .connecting, self.upstream === upstream else { return }
    send(on: upstream)
  }

  func upstreamInterim(_ interim: inout ResponseHead) {
    guard phase == .sending else { return }
    let told = keepsCase ? spellings(of: interim.headers) : nil
    interim.headers.removeHopByHop()
    interim.headers.remove(Names.neverToClients)
    if keepsCase { spell(&interim.headers, as: told) }
    client?.interim(interim)
  }

  func upstreamCanTakeMore() { pumpRequestBody() }

  func flushClient() { client?.flush() }

  // MARK: The response head

  func upstreamResponded(_ response: inout ResponseHead) {
    guard phase == .sending else { return }
    serviceMilliseconds = milliseconds(now - tryBegan)
    if response.status == 101 { return switchProtocols(&response) }
    let isNotProcessed = isMeshTry && response.headers.contains(.notProcessed)
    if isNotProcessed || response.status >= 400 || wishes != nil || response.headers.contains(.grpcStatus) {
      if tryAgain(after: isNotProcessed ? .notProcessed : .response(tryResponse(response))) { return }
    }
    passOn(&response)
  }

  private func tryResponse(_ head: borrowing ResponseHead) -> TryResponse {
    let grpc = head.headers.value(.grpcStatus).flatMap { parseDecimal(head.headers.copy($0), max: 255) }
    var response = TryResponse(
      status: UInt16(clamping: head.status), grpcStatus: grpc.map { UInt8(clamping: $0) },
      isOverloaded: head.headers.contains(.overloaded), isRateLimited: head.headers.contains(.ratelimited))
    if let wishes { response.hasRetriableHeader = wishes.headerNames.contains { head.headers.value($0) != nil } }
    return response
  }

  /// Writes the upstream's head to the client, with what the mesh adds.
  private func passOn(_ response: inout ResponseHead) {
    guard let client, let upstream else { return }
    phase = .responding
    cancelTimers(keepingTotal: true)
    judge(response)
    status = UInt16(clamping: response.status)
    details = "via_upstream"
    upstreamLocalText = worker.state.options.accessLog == nil ? "" : upstream.localAddressText
    editResponse(&response)
    if let web {
      response.headers.set(Names.contentType, web.responseType)
      response.forgetLength()
    }
    closesAfter = mustCloseAfter
    notes?.answers(with: response.headers, at: now, isUpstreams: true)
    responseHeadBytes = UInt64(client.respond(response, closing: closesAfter))
  }

  /// Tells the balancer how the endpoint did. A gRPC answer says so in its trailers.
  private func judge(_ response: borrowing ResponseHead) {
    guard isGRPC, response.status == 200 else { return settleTry(status: response.status) }
    if let status = GRPCStatus.read(response.headers) {
      settleTry(status: GRPCStatus.http(status))
    } else {
      isJudgedLater = true
    }
  }

  private func editResponse(_ response: inout ResponseHead) {
    let told = keepsCase ? spellings(of: response.headers) : nil
    response.headers.removeHopByHop(keepingUpgrade: false)
    response.headers.remove(Names.neverToClients)
    nameServer(&response.headers)
    if let serviceMilliseconds, !snapshot.settings.proxy.headers.leavesOutDebug {
      response.headers.set(Names.serviceTime, number: serviceMilliseconds)
    }
    if let setCookie { addSticky(setCookie, to: &response.headers) }
    if !response.headers.contains(.date) { response.headers.add(Names.date, worker.date) }
    applyResponseChanges(&response.headers)
    if keepsCase { spell(&response.headers, as: told) }
    if isGRPC { grpcStatus = GRPCStatus.read(response.headers) }
  }

  /// Whether a connection of one request at a time ends with this one. A client that waits for `100 Continue` and gets a
  /// final answer may or may not send its body, and one that was refused another protocol may speak it already: nobody can
  /// know.
  private var mustCloseAfter: Bool {
    guard !caller.isHTTP2 else { return false }
    return !head.keepsAlive || head.wantsUpgrade || caller.port.isDraining || worker.isDraining
      || worker.overload.level > .normal
      || head.expectsContinue && !bodyEnded && requestBodyBytes == 0
  }

  // MARK: The response body

  func upstreamBody(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard phase == .responding || phase == .tunnel, let client else { return }
    responseBodyBytes += UInt64(bytes.count)
    if isGRPC { responseMessages.pass(bytes) }
    if let web { web.encode(bytes).withUnsafeBufferPointer { client.write($0) } } else { client.write(bytes) }
    client.touch()
    if client.pendingOutput >= ProxyLimits.outputHighWater { upstream?.pause() }
  }

  func clientCanTakeMore() { if let tunnel { tunnel.moved() } else { upstream?.resume() } }

  func upstreamEnded(trailers: HeaderBlock?) {
    guard phase == .responding || phase == .tunnel, let client else { return }
    if isGRPC, let trailers, grpcStatus == nil { grpcStatus = GRPCStatus.read(trailers) }
    if isJudgedLater { settleTry(status: grpcStatus.map(GRPCStatus.http) ?? 200) }
    notes?.ends(with: trailers, at: now)
    if let web, let trailers {
      web.frame(trailers).withUnsafeBufferPointer { client.write($0) }
      client.end(trailers: nil)
    } else {
      client.end(trailers: trailers)
    }
    upstream = nil
    // What the head said holds: a client told to keep the connection may have sent its next request already.
    let keepAlive = !closesAfter && phase == .responding
    finish()
    client.exchangeEnded(keepAlive: keepAlive)
  }

  // MARK: Upgrades

  /// What follows is a body without an end of its own, in both directions.
  private func switchProtocols(_ response: inout ResponseHead) {
    guard head.wantsUpgrade, head.headers.asksForUpgrade(of: response.headers), let client else {
      dropUpstream()
      return tryFailed(UpstreamFailure(.malformed(MessageError(.malformedStatusLine, status: 502))))
    }
    cancelTimers(keepingTotal: false)
    phase = .tunnel
    status = 101
    details = "via_upstream"
    let told = keepsCase ? spellings(of: response.headers) : nil
    response.headers.removeHopByHop(keepingUpgrade: true)
    response.headers.remove(Names.neverToClients)
    response.headers.add(Names.connection, Names.upgradeValue)
    if !caller.isHTTP2 { WebSocket.completeResponse(&response, to: head) }
    if keepsCase { spell(&response.headers, as: told) }
    notes?.answers(with: response.headers, at: now, isUpstreams: true)
    responseHeadBytes = UInt64(client.respond(response, closing: false))
    replayIsWhole = false
    client.beginTunnel()
    client.touch()
    pumpRequestBody()
  }

  // MARK: Failures and other tries

  func upstreamFailed(_ failure: UpstreamFailure) {
    upstream = nil
    upstreamReady = false
    switch phase {
    case .connecting:
      worker.counters.upstreamConnectFailures += 1
      tryFailed(failure)
    case .sending:
      if mayReconnect(failure) { return reconnect() }
      tryFailed(failure)
    case .responding:
      // Part of the answer is out: it must be seen as cut.
      if isJudgedLater { settleTry(status: 0) }
      let isReset = failure.reason == .reset
      flags.insert(isReset ? .upstreamRemoteReset : .upstreamConnectionTermination)
      details =
        "upstream_reset_after_response_started{\(isReset ? "remote_reset" : "connection_termination")}"
      finish()
      client?.abort()
    case .tunnel:
      finish()
      client?.abort()
    case .idle, .deciding: break
    }
  }

  /// A kept connection that ended before any byte of an answer was closed by its peer while it lay idle: the request may
  /// go on a new one when nothing of it left, or when doing it twice does no harm.
  private func mayReconnect(_ failure: UpstreamFailure) -> Bool {
    // Where the route itself tries resets again, they count against its attempts.
    if failure.isSent, route?.retry?.conditions.contains(.reset) ?? false { return false }
    return failure.isStale && replayIsWhole && (!failure.isSent || head.method.isIdempotent)
  }

  private func reconnect() {
    uncount()
    tried.removeLast(min(1, tried.count))
    mustOpenNew = true
    attempts -= 1
    beginTry()
  }

  /// The current try came to nothing before a response.
  func tryFailed(_ failure: UpstreamFailure) {
    upstreamReady = false
    let outcome: TryOutcome
    switch failure.reason {
    case .connect(let why):
      if isCounted, let ticket { clusterState?.balancer.report(.connectFailed, ticket, now: now) }
      transportFailure = Self.text(why)
      outcome = .connectFailed
    case .notProcessed: outcome = .notProcessed
    case .closed, .reset: outcome = .reset(isRequestSent: failure.isSent)
    case .malformed: outcome = .response(TryResponse(status: 502))
    }
    switch failure.reason {
    case .connect, .notProcessed: break
    case .malformed:
      settleTry(status: 0)
      return reply(failure.error)
    case .closed, .reset: settleTry(status: 0)
    }
    if tryAgain(after: outcome) { return }
    // Only another node may be told to go elsewhere; a client hears of a reset.
    let isOurs = failure.reason == .notProcessed && inbound == nil
    var answer = ProxyReply(isOurs ? .upstreamReset : failure.error, isRetried: attempts > 1)
    // The application has not seen the request, so it is safe elsewhere.
    if inbound != nil, caller.peer != nil, !caller.isInner, !failure.isSent {
      answer.fields.append((Names.notProcessed, Names.yes))
    }
    reply(answer)
  }

  private static func text(_ failure: ProxyError.ConnectFailure) -> String {
    switch failure {
    case .refused: "delayed_connect_error:_Connection_refused"
    case .timedOut: "connection_timeout"
    case .unreachable: "delayed_connect_error:_No_route_to_host"
    case .tls(let why): "TLS_error:_\(why.replacing(" ", with: "_"))"
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
      input.maxRetries = snapshot.clusters[cluster].connectionPool.maxRetries
      input.budget = snapshot.clusters[cluster].connectionPool.retryBudget
      input.load = clusterState.load.current(for: input.budget, at: now)
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

  /// What the configuration says, with what the caller asks for.
  private var retryPolicy: RetryPolicy? {
    guard let wishes else { return writtenRetryPolicy }
    return wishes.adding(to: writtenRetryPolicy)
  }

  /// Inbound, a request that never reached the application is tried again: twice, unless the mesh says otherwise.
  private var writtenRetryPolicy: RetryPolicy? {
    guard inbound != nil else { return route == nil ? snapshot.settings.defaultRetry : route?.retry }
    return isGRPC ? nil : snapshot.settings.inboundRetry
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

  func uncount(wakingOthers: Bool = true) {
    serving?.ended()
    serving = nil
    guard isCounted, let clusterState else { return }
    isCounted = false
    clusterState.load.endRequest()
    if isRetryCounted { clusterState.load.endRetry() }
    isRetryCounted = false
    if let ticket { clusterState.balancer.finished(ticket) }
    if wakingOthers, let next = clusterState.nextWaiting() {
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
    var answer = LocalReply(error)
    if isCallersDeadline { answer.grpcStatus = GRPCStatus.deadlineExceeded }
    reply(ProxyReply(answer))
  }

  private func responseTimedOut() {
    flags.insert(.upstreamRequestTimeout)
    details = "response_timeout"
    dropUpstream()
    finish()
    client?.abort()
  }

  /// Nothing moved for too long.
  func streamIdle() {
    if phase == .responding || phase == .tunnel {
      flags.insert(.streamIdleTimeout)
      dropUpstream()
      finish()
      client?.abort()
    } else {
      dropUpstream()
      reply(ProxyReply(.streamIdle, closes: true))
    }
  }

  // MARK: The proxy's own answer

  func reply(_ error: ProxyError) { reply(ProxyReply(error)) }

  /// Answers once, whatever was under way.
  func reply(_ answer: ProxyReply) {
    guard phase != .idle, phase != .responding, phase != .tunnel, let client else { return }
    dropUpstream()
    worker.counters.localReplies += 1
    status = answer.answer.status
    flags.formUnion(answer.answer.flags)
    details = answer.answer.details
    let close = answer.closes || mustCloseAfter || !client.requestIsComplete && !caller.isHTTP2
    send(answer, closing: close, to: client)
    finish()
    client.exchangeEnded(keepAlive: !close)
  }

  private func send(_ answer: ProxyReply, closing: Bool, to client: any Downstream) {
    var response = ResponseHead()
    let body = answer.write(
      into: &response, isGRPC: isGRPC, server: serverName, answering: head.method)
    response.headers.add(Names.date, worker.date)
    if isGRPC { grpcStatus = GRPCStatus.read(response.headers) }
    if let web { response.headers.set(Names.contentType, web.responseType) }
    notes?.answers(with: response.headers, at: now, isUpstreams: false)
    responseHeadBytes = UInt64(client.respond(response, closing: closing))
    responseBodyBytes = UInt64(body.count)
    if !body.isEmpty { body.withUnsafeBufferPointer { client.write($0) } }
    client.end(trailers: nil)
  }

  /// Answers bytes that are no request; nothing in them was understood, so nothing is routed or counted for a flow.
  func refuse(_ error: MessageError, since began: Instant) {
    refuse(ProxyReply(error), since: began)
  }

  func refuse(status: Int, details: String, since began: Instant) {
    refuse(
      ProxyReply(
        LocalReply(
          status: UInt16(clamping: status), body: "", flags: .downstreamProtocolError,
          details: details), closes: true),
      since: began)
  }

  private func refuse(_ answer: ProxyReply, since began: Instant) {
    head = RequestHead()
    reset(at: began)
    phase = .deciding
    worker.counters.requestsRefused += 1
    reply(answer)
  }

  /// The client went away: what works for it stops, and its place is free.
  func clientGone() {
    guard phase != .idle else { return }
    if let tunnel { return tunnel.gone() }
    dropUpstream()
    if phase != .tunnel {
      flags.insert(.downstreamConnectionTermination)
      details = phase == .responding ? details : "downstream_remote_disconnect"
      if phase != .responding { status = 0 }
    }
    finish()
  }

  func cancelTimers(keepingTotal: Bool) {
    let total = totalTimer
    if keepingTotal { totalTimer = .none }
    cancelTimers()
    if keepingTotal { totalTimer = total }
  }
}
