%% Erlang's end of the measured link: gen_server:call over the distribution, which runs over TLS.
%%
%% erl ... -s echo server                  serves until its input ends
%% erl ... -s echo client SERVER@HOST      reads lines "calls BYTES CONCURRENCY SECONDS", answers each with a line of JSON
-module(echo).
-behaviour(gen_server).
-export([server/0, client/1, init/1, handle_call/3, handle_cast/2]).

init([]) -> {ok, none}.
handle_call({echo, Body}, _From, State) -> {reply, Body, State}.
handle_cast(_, State) -> {noreply, State}.

server() ->
    {ok, _} = gen_server:start({local, echo}, ?MODULE, [], []),
    ready(),
    wait_for_end().

wait_for_end() ->
    case io:get_line("") of
        eof -> halt();
        _ -> wait_for_end()
    end.

ready() -> io:format("{\"ready\": true}~n").

client([Node]) ->
    connect(Node, 200),
    ready(),
    lines(Node).

connect(Node, 0) -> io:format("echo: ~p cannot be reached~n", [Node]), halt(1);
connect(Node, Left) ->
    case net_kernel:connect_node(Node) of
        true -> <<1>> = gen_server:call({echo, Node}, {echo, <<1>>});
        _ -> timer:sleep(50), connect(Node, Left - 1)
    end.

lines(Node) ->
    case io:get_line("") of
        eof -> halt();
        Line ->
            {ok, [Bytes, Concurrency, Seconds], _} = io_lib:fread("calls ~d ~d ~d", Line),
            measure(Node, Bytes, Concurrency, Seconds),
            lines(Node)
    end.

measure(Node, Bytes, Concurrency, Seconds) ->
    Body = binary:copy(<<97>>, Bytes),
    Begin = erlang:monotonic_time(microsecond),
    End = Begin + Seconds * 1000000,
    Self = self(),
    Callers = [spawn_link(fun() -> Self ! {self(), calls(Node, Body, Begin, End, [])} end)
               || _ <- lists:seq(1, Concurrency)],
    Times = lists:sort(lists:append([receive {Caller, Own} -> Own end || Caller <- Callers])),
    Took = (erlang:monotonic_time(microsecond) - Begin) / 1000000,
    Count = length(Times),
    io:format("{\"calls\": ~p, \"seconds\": ~f, \"p50\": ~p, \"p99\": ~p}~n",
              [Count, Took, lists:nth(Count div 2 + 1, Times), lists:nth(Count * 99 div 100 + 1, Times)]).

calls(_, _, Before, End, Times) when Before >= End -> Times;
calls(Node, Body, _, End, Times) ->
    Before = erlang:monotonic_time(microsecond),
    Body = gen_server:call({echo, Node}, {echo, Body}, infinity),
    After = erlang:monotonic_time(microsecond),
    calls(Node, Body, After, End, [After - Before | Times]).
