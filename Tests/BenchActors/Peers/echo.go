// gRPC's end of the measured link: a unary echo of bytes over mutual TLS, without protobuf's own work.
//
//	echo server ADDRESS CERTIFICATES
//	echo client ADDRESS CERTIFICATES     reads lines "calls BYTES CONCURRENCY SECONDS", answers each with a line of JSON
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// raw hands bytes through as they are.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v interface{}) error { *v.(*[]byte) = data; return nil }
func (raw) Name() string                               { return "raw" }
func (raw) String() string                             { return "raw" }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func settings(folder, name string) *tls.Config {
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, name+".pem"), filepath.Join(folder, name+".key"))
	check(err)
	authority, err := os.ReadFile(filepath.Join(folder, "authority.pem"))
	check(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, ClientCAs: pool, ServerName: "server",
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}
}

func echo(_ interface{}, _ context.Context, decode func(interface{}) error, _ grpc.UnaryServerInterceptor) (interface{}, error) {
	var body []byte
	if err := decode(&body); err != nil {
		return nil, err
	}
	return &body, nil
}

func serve(address, folder string) {
	listener, err := net.Listen("tcp", address)
	check(err)
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(settings(folder, "server"))), grpc.CustomCodec(raw{}))
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "bench.Echo", HandlerType: (*interface{})(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Echo", Handler: echo}},
	}, struct{}{})
	go func() { check(server.Serve(listener)) }()
	fmt.Println(`{"ready": true}`)
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
	}
}

func measure(connection *grpc.ClientConn, bytes, concurrency, seconds int) {
	body := make([]byte, bytes)
	begin := time.Now()
	end := begin.Add(time.Duration(seconds) * time.Second)
	all := make([][]int64, concurrency)
	var group sync.WaitGroup
	for caller := range all {
		group.Add(1)
		go func(caller int) {
			defer group.Done()
			for before := time.Now(); before.Before(end); {
				var answer []byte
				check(connection.Invoke(context.Background(), "/bench.Echo/Echo", &body, &answer, grpc.ForceCodec(raw{})))
				if len(answer) != len(body) {
					check(fmt.Errorf("another answer than was sent"))
				}
				after := time.Now()
				all[caller] = append(all[caller], after.Sub(before).Microseconds())
				before = after
			}
		}(caller)
	}
	group.Wait()
	took := time.Since(begin).Seconds()
	var times []int64
	for _, own := range all {
		times = append(times, own...)
	}
	sort.Slice(times, func(a, b int) bool { return times[a] < times[b] })
	fmt.Printf("{\"calls\": %d, \"seconds\": %f, \"p50\": %d, \"p99\": %d}\n",
		len(times), took, times[len(times)/2], times[len(times)*99/100])
}

func ask(address, folder string) {
	connection, err := grpc.Dial(address, grpc.WithTransportCredentials(credentials.NewTLS(settings(folder, "client"))))
	check(err)
	for {
		body, answer := []byte{1}, []byte{}
		if connection.Invoke(context.Background(), "/bench.Echo/Echo", &body, &answer, grpc.ForceCodec(raw{})) == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println(`{"ready": true}`)
	for input := bufio.NewScanner(os.Stdin); input.Scan(); {
		var bytes, concurrency, seconds int
		_, err := fmt.Sscanf(input.Text(), "calls %d %d %d", &bytes, &concurrency, &seconds)
		check(err)
		measure(connection, bytes, concurrency, seconds)
	}
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == "server" {
		serve(os.Args[2], os.Args[3])
	} else if len(os.Args) == 4 && os.Args[1] == "client" {
		ask(os.Args[2], os.Args[3])
	} else {
		check(fmt.Errorf("usage: echo server|client ADDRESS CERTIFICATES"))
	}
}
