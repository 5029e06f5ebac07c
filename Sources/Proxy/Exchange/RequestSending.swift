import HTTPCodec
import MeshConfig
import Primitives
import Telemetry
import Traffic
import Transport

/// What goes to the upstream: the head, then the body as the client sends it.
extension Exchange {
  /// Hands head and known body bytes to the upstream.
  func send(on upstream: any Upstream) {
    phase = .sending
    upstreamReady = true
    upstreamAddressText = upstream.addressText
    if inbound == nil, !snapshot.settings.proxy.headers.leavesOutAttemptCount {
      head.headers.set(Names.attemptCount, number: UInt64(max(1, attempts)))
    }
    if deadline != .distantFuture || perTryTimeout != nil { announceTimeLimit() }
    if certificateFieldBefore != nil || endpoint?.isLocal == true { introduceCaller() }
    if isMeshTry {
      if let sourceLocal, let line = state.sourceLines[sourceLocal] { head.headers.set(line) }
    } else if attempts > 1 {
      head.headers.remove(Names.betweenNodes)
    }
    if keepsCase { spellRequest() }
    notes?.sends(on: upstream, at: now, isWhole: bodyEnded)
    upstream.begin(head, for: self)
    if !replay.isEmpty { replay.withUnsafeBufferPointer { upstream.write($0) } }
    if bodyEnded {
      upstream.end(trailers: client?.requestTrailers)
    } else {
      if !replayIsWhole { replay = [] }
      pumpRequestBody()
    }
    upstream.flush()
  }

  /// Moves request body bytes as far as the upstream, or the replay buffer, has room.
  func pumpRequestBody() {
    if let tunnel { return tunnel.moved() }
    guard !isPumping else {
      mustPumpAgain = true
      return
    }
    isPumping = true
    repeat {
      mustPumpAgain = false
      pumpUntilFull()
    } while mustPumpAgain
    isPumping = false
  }

  private func pumpUntilFull() {
    // What follows a wish for another protocol belongs to that one, once it is agreed.
    guard phase != .idle, !bodyEnded, !head.wantsUpgrade || phase == .tunnel, let client else {
      return
    }
    do throws(MessageError) {
      while canTakeBody {
        switch try client.nextBodyEvent() {
        case .data:
          if web?.isMalformed == true { throw MessageError(.malformedBase64) }
        case .needMore:
          upstream?.flush()
          return
        case .end:
          if web?.isCut == true { throw MessageError(.malformedBase64) }
          bodyEnded = true
          requestEnded = now
          if upstreamReady { notes?.sendEnded = now }
          if upstreamReady, let upstream { upstream.end(trailers: client.requestTrailers) }
          if plan.mirrors != 0, replayIsWhole { sendMirrors() }
          upstream?.flush()
          return
        }
      }
    } catch {
      requestBodyFailed(error)
      return
    }
    guard upstreamReady, let upstream else { return }
    upstream.waitForRoom()
    upstream.flush()
  }

  /// Copies go out once the whole request is known; one too long to keep is not mirrored.
  private func sendMirrors() {
    guard let mirrors = route?.mirrors else { return }
    for index in mirrors.indices.prefix(TrafficLimits.mirrorsMax) where plan.mirrors & (1 << UInt32(index)) != 0 {
      guard let cluster = mirrors[index].cluster else { continue }
      Mirror.send(head, replay, to: cluster, from: sourceLocal, worker: worker, state: state)
    }
  }

  private var canTakeBody: Bool {
    if upstreamReady, let upstream { return upstream.pendingOutput < ProxyLimits.outputHighWater }
    return replay.count < ProxyLimits.retryBodyBytes
  }

  /// Body bytes from the client.
  func requestBody(_ bytes: UnsafeBufferPointer<UInt8>) {
    if let tunnel { return tunnel.received(bytes) }
    requestBodyBytes += UInt64(bytes.count)
    client?.touch()
    if let web { return web.decode(bytes).withUnsafeBufferPointer { takeBody($0) } }
    takeBody(bytes)
  }

  private func takeBody(_ bytes: UnsafeBufferPointer<UInt8>) {
    guard !bytes.isEmpty else { return }
    if isGRPC { requestMessages.pass(bytes) }
    if upstreamReady, replay.count + bytes.count > ProxyLimits.retryBodyBytes {
      replayIsWhole = false
      replay = []
    }
    if replayIsWhole { replay.append(contentsOf: bytes) }
    if upstreamReady, let upstream { upstream.write(bytes) }
  }

  /// A malformed body ends the request as an error, never as a shorter body (RFC 9112).
  private func requestBodyFailed(_ error: MessageError) {
    dropUpstream()
    if phase == .responding {
      flags.insert(.downstreamProtocolError)
      finish()
      client?.abort()
    } else {
      reply(ProxyReply(error))
    }
  }
}
